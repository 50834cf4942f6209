/* SPDX-License-Identifier: MIT */
/* Making, opening and closing the memory of a tally. */
#include "tally_page.h"

#include "error.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int page_init(struct page *page, size_t maxsize)
{
	pthread_mutexattr_t attributes;
	int r;

	pthread_mutexattr_init(&attributes);
	r = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	if (!r)
		r = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	if (!r)
		r = pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
	if (!r)
		r = pthread_mutex_init(&page->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	page->magic = MAGIC;
	page->maxsize = maxsize;
	page->next = NOWHERE;
	return r;
}

/* Never descriptor 0, 1 or 2: a program would take it for its standard streams. */
static int make_file(void)
{
	int low = memfd_create("buffered_pipe queue", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int fd = low < 0 || low > 2 ? low : fcntl(low, F_DUPFD_CLOEXEC, 3);
	int error = errno;

	if (low >= 0 && low != fd)
		close(low);
	errno = error;
	/* Allocates the memory now, in a call that can fail, and seals the file so that no process can shrink it. */
	if (fd >= 0 && (fallocate(fd, 0, 0, sizeof(struct page)) < 0 ||
			fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)) {
		error = errno;
		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static bool is_ours(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 && status.st_size == sizeof(struct page);
}

static struct page *map(int fd)
{
	struct page *page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return page == MAP_FAILED ? NULL : page;
}

static struct page *make_page(int fd, bool is_new, size_t maxsize)
{
	struct page *page = fd < 0 ? NULL : map(fd);
	int r = 0;

	if (page && is_new)
		r = page_init(page, maxsize);
	if (page && r == 0 && page->magic == MAGIC)
		return page;
	if (page)
		munmap(page, sizeof(*page));
	if (r)
		errno = r;
	else if (page)
		errno = EBADMSG;
	return NULL;
}

struct tally *tally_open(int fd, size_t maxsize)
{
	struct tally *tally = PyMem_Calloc(1, sizeof(*tally));
	bool is_new = fd < 0;

	if (!tally) {
		PyErr_NoMemory();
	} else if (!is_new && !is_ours(fd)) {
		raise_os(EBADMSG, "this is not the descriptor of a queue", NULL);
	} else {
		if (is_new)
			fd = make_file();
		tally->page = make_page(fd, is_new, maxsize);
		if (tally->page) {
			tally->fd = fd;
			tally->refs = 1;
			return tally;
		}
		PyErr_SetFromErrno(PyExc_OSError);
	}
	if (fd >= 0)
		close(fd);
	PyMem_Free(tally);
	return NULL;
}

void tally_hold(struct tally *tally)
{
	tally->refs++;
}

void tally_drop(struct tally *tally)
{
	if (!tally || --tally->refs)
		return;
	munmap(tally->page, sizeof(*tally->page));
	close(tally->fd);
	PyMem_Free(tally);
}

int tally_fd(const struct tally *tally)
{
	return tally->fd;
}

size_t tally_maxsize(const struct tally *tally)
{
	return tally->page->maxsize;
}
