/* SPDX-License-Identifier: MIT */
/* Finding regions through /proc. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "inspect.h"

#define MEMFD "/memfd:"
/* A thread of the kernel, in the flags of /proc/PID/stat. */
#define PF_KTHREAD 0x00200000u

void scan_free(struct scan *scan)
{
	for (size_t i = 0; i < scan->n; i++) {
		struct hold *next;

		for (struct hold *h = scan->regions[i]->holds; h; h = next) {
			next = h->next;
			free(h);
		}
		free(scan->regions[i]);
	}
	for (size_t i = 0; i < scan->n_processes; i++)
		free(scan->processes[i]);
	free(scan->regions);
	free(scan->processes);
	free(scan);
}

/* Adds item to an array that grows at each power of two.  -ENOMEM. */
static int append(void ***array, size_t *n, void *item)
{
	if (!(*n & (*n - 1))) {
		void **more = realloc(*array, (*n ? 2 * *n : 1) * sizeof(void *));

		if (!more)
			return -ENOMEM;
		*array = more;
	}
	(*array)[(*n)++] = item;
	return 0;
}

/* The state and the flags in /proc/PID/stat.  False if it has gone, or is a thread of the kernel. */
static bool read_stat(int dir, struct process *p)
{
	char buf[512];
	unsigned flags;
	char *begin;
	char *end;
	ssize_t n;
	int fd = openat(dir, "stat", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = 0;
	/* The command is in parentheses, and may contain parentheses itself. */
	begin = strchr(buf, '(');
	end = strrchr(buf, ')');
	if (!begin || !end || end < begin)
		return false;
	clean_text(p->command, sizeof(p->command), begin + 1, (size_t)(end - begin - 1));
	if (sscanf(end + 1, " %c %*d %*d %*d %*d %*d %u", &p->state, &flags) != 2)
		return false;
	return !(flags & PF_KTHREAD) && p->state != 'Z' && p->state != 'X';
}

static bool identity_possible(const struct identity *id, off_t size)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (id->flags & ~(uint32_t)LAYOUT_ALL || !(id->flags & (LAYOUT_SENDS | LAYOUT_RECEIVES)))
		return false;
	if (id->data_size > 4 * LAYOUT_MAX || (uint64_t)size != page + id->data_size)
		return false;
	if (!(id->flags & LAYOUT_SENDS))
		return !id->data_size;
	return id->data_size >= page && !(id->data_size & (id->data_size - 1)) &&
	       id->limit >= RECORD_HEADER && id->limit <= id->data_size - RECORD_HEADER;
}

/* path leads to a file that is known to be a memory file, so opening it has no effect on anybody. */
static void read_region(struct scan *scan, struct region_view *r, const char *path)
{
	struct identity *id = &r->control.identity;
	void *to = (char *)r + offsetof(struct region_view, control);
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		scan->unreadable += errno == EACCES || errno == EPERM;
		return;
	}
	if (fstat(fd, &st) == 0 && st.st_ino == r->inode &&
	    pread(fd, to, sizeof(r->control), 0) == sizeof(r->control) && id->magic == LAYOUT_MAGIC) {
		r->version = id->version;
		r->other = id->version != LAYOUT_VERSION;
		r->ours = !r->other && identity_possible(id, st.st_size);
		r->control.about.name[LAYOUT_NAME - 1] = 0;
	}
	close(fd);
}

static struct region_view *find_region(const struct scan *scan, dev_t dev, ino_t inode)
{
	struct region_view *r = scan->buckets[inode % BUCKETS];

	while (r && (r->inode != inode || r->dev != dev))
		r = r->next_in_bucket;
	return r;
}

static struct region_view *add_region(struct scan *scan, dev_t dev, ino_t inode, const char *path)
{
	struct region_view *r = calloc(1, sizeof(*r));

	if (!r || append((void ***)&scan->regions, &scan->n, r) < 0) {
		free(r);
		return NULL;
	}
	r->dev = dev;
	r->inode = inode;
	r->next_in_bucket = scan->buckets[inode % BUCKETS];
	scan->buckets[inode % BUCKETS] = r;
	read_region(scan, r, path);
	return r;
}

static int note_hold(struct region_view *r, const struct process *process, bool writes)
{
	struct hold *h;

	if (!r || !(r->ours || r->other))
		return 0;
	/* The process that is looked at now is in front. */
	if (r->holds && r->holds->process == process) {
		r->holds->writes |= writes;
		return 0;
	}
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	*h = (struct hold){ .process = process, .writes = writes, .next = r->holds };
	r->holds = h;
	return 0;
}

/*
 * All memory files are on one file system of the kernel.  A name that looks like
 * theirs may belong to another file, whose maker could make a look at it sleep for ever.
 * So this asks only the kernel.
 */
static bool is_memory_file(const struct scan *scan, int fd, struct statx *file)
{
	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE | STATX_INO, file) == 0 &&
	       makedev(file->stx_dev_major, file->stx_dev_minor) == scan->memory && S_ISREG(file->stx_mode);
}

static int find_file_system(struct scan *scan)
{
	int fd = memfd_create("bufpipe-list", MFD_CLOEXEC);
	struct stat st = { 0 };
	int r;

	if (fd < 0)
		return -errno;
	r = fstat(fd, &st) < 0 ? -errno : 0;
	close(fd);
	scan->memory = st.st_dev;
	return r;
}

/*
 * Looks at one descriptor.  O_PATH holds the file without opening it.  So the file that
 * is checked is the file that is opened, even if the process puts another file under
 * this number meanwhile.
 */
static int look_at_descriptor(struct scan *scan, int dir, const char *number, const struct process *process)
{
	char target[64] = "";
	char path[32];
	struct region_view *r;
	struct statx file;
	struct stat link;
	int result = 0;
	int fd;

	if (readlinkat(dir, number, target, sizeof(target) - 1) < 0 ||
	    strncmp(target, MEMFD, strlen(MEMFD)) != 0)
		return 0;
	fd = openat(dir, number, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	memset(target, 0, sizeof(target));
	if (is_memory_file(scan, fd, &file) && readlink(path, target, sizeof(target) - 1) > 0 &&
	    strncmp(target, MEMFD, strlen(MEMFD)) == 0 &&
	    fstatat(dir, number, &link, AT_SYMLINK_NOFOLLOW) == 0) {
		r = find_region(scan, scan->memory, file.stx_ino);
		if (!r)
			r = add_region(scan, scan->memory, file.stx_ino, path);
		/* The mode of the link is that with which the descriptor was opened. */
		result = note_hold(r, process, link.st_mode & S_IWUSR);
	}
	close(fd);
	return result;
}

static int look_at_descriptors(struct scan *scan, int process_dir, const struct process *process)
{
	int fd = openat(process_dir, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int r = 0;

	if (!dir) {
		scan->unseen += errno == EACCES || errno == EPERM;
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while (r == 0) {
		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			/* Reading the list may be forbidden even if the folder can be opened. */
			scan->unseen += errno == EACCES || errno == EPERM;
			break;
		}
		if (isdigit((unsigned char)entry->d_name[0]))
			r = look_at_descriptor(scan, dirfd(dir), entry->d_name, process);
	}
	closedir(dir);
	return r;
}

/* An end with BUFPIPE_NO_HANDOVER has no descriptors of its regions, only mappings. */
static int look_at_mapping(struct scan *scan, const char *line, const struct process *process)
{
	unsigned long begin;
	unsigned long end;
	unsigned long inode;
	unsigned major;
	unsigned minor;
	char mode[5];
	char path[96];
	int name = 0;
	struct region_view *r;

	if (sscanf(line, "%lx-%lx %4s %*x %x:%x %lu %n", &begin, &end, mode, &major, &minor, &inode, &name) <
		    6 ||
	    !name || strncmp(line + name, MEMFD, strlen(MEMFD)) != 0 || mode[3] != 's' ||
	    makedev(major, minor) != scan->memory)
		return 0;
	r = find_region(scan, makedev(major, minor), inode);
	if (!r) {
		snprintf(path, sizeof(path), "/proc/%d/map_files/%lx-%lx", (int)process->pid, begin, end);
		r = add_region(scan, makedev(major, minor), inode, path);
	}
	return note_hold(r, process, mode[1] == 'w');
}

static int look_at_mappings(struct scan *scan, int process_dir, const struct process *process)
{
	int fd = openat(process_dir, "maps", O_RDONLY | O_CLOEXEC);
	FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	int r = 0;

	if (!maps) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while (r == 0 && getline(&line, &size, maps) > 0)
		r = look_at_mapping(scan, line, process);
	free(line);
	fclose(maps);
	return r;
}

static int look_at_process(struct scan *scan, int dir, pid_t pid)
{
	struct process *process = calloc(1, sizeof(*process));
	int r;

	if (!process)
		return -ENOMEM;
	process->pid = pid;
	if (!read_stat(dir, process)) {
		free(process);
		return 0;
	}
	r = append((void ***)&scan->processes, &scan->n_processes, process);
	if (r < 0) {
		free(process);
		return r;
	}
	r = look_at_descriptors(scan, dir, process);
	return r < 0 ? r : look_at_mappings(scan, dir, process);
}

int scan_pipes(struct scan **result)
{
	struct scan *scan = calloc(1, sizeof(*scan));
	DIR *proc = opendir("/proc");
	const struct dirent *entry;
	int r = proc ? 0 : -errno;

	if (!scan)
		r = -ENOMEM;
	if (r == 0)
		r = find_file_system(scan);
	while (r == 0 && proc && (entry = readdir(proc))) {
		int dir;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		dir = openat(dirfd(proc), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0)
			continue; /* it has gone */
		r = look_at_process(scan, dir, (pid_t)atoi(entry->d_name));
		close(dir);
	}
	if (proc)
		closedir(proc);
	if (r < 0) {
		if (scan)
			scan_free(scan);
		return r;
	}
	scan->when = now_ns();
	*result = scan;
	return 0;
}

void complain_unseen(const struct scan *scan)
{
	if (scan->unseen)
		complain("%u process%s of other users could not be looked at; root sees all", scan->unseen,
			 plural_es(scan->unseen));
	else if (scan->unreadable)
		complain("%u region%s of other users could not be read; root sees all", scan->unreadable,
			 plural_s(scan->unreadable));
}

int complain_none(const struct filter *filter)
{
	if (!filter->pid)
		complain("no pipe named '%s' can be seen", filter->name);
	else if (!filter->name)
		complain("process %d holds no pipe that can be seen", (int)filter->pid);
	else
		complain("process %d holds no pipe named '%s' that can be seen", (int)filter->pid,
			 filter->name);
	return STATUS_NONE;
}
