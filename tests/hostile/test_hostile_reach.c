/* SPDX-License-Identifier: MIT */
/* A peer maps memory of its victim, but cannot write, resize or seal it. */
#include "hostile/hostile.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

TestSuite(hostile_reach, .timeout = 30);

/* The victim's control page and its header are as the victim wrote them, whatever the rogue had. */
Test(hostile_reach, a_peer_has_no_writable_memory_of_its_victim)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	struct duel d = duel_begin(0, &options);
	int status;
	pid_t pid = fork();

	if (!pid) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		*(volatile char *)d.rogue->theirs.control = 1;
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "it could write");
	duel_end(&d);
}

/* Tries everything that might change the victim's region through the descriptor that its peer has. */
static void try_to_alter(int fd, off_t size, bool as_owner)
{
	char path[32];
	void *at;
	int again;

	cr_assert_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	cr_assert_neq(at, MAP_FAILED);
	cr_assert_eq(mprotect(at, 4096, PROT_READ | PROT_WRITE), -1);
	munmap(at, 4096);
	cr_assert_eq(write(fd, "x", 1), -1);
	cr_assert_eq(pwrite(fd, "x", 1, 4096), -1);
	cr_assert_eq(ftruncate(fd, 0), -1);
	cr_assert_eq(ftruncate(fd, size * 2), -1);
	cr_assert_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size), -1);
	cr_assert_eq(fallocate(fd, 0, size, 4096), -1);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!as_owner) {
		cr_assert_eq(fchmod(fd, 0666), -1);
		cr_assert_eq(fchown(fd, NOBODY, NOBODY), -1);
		cr_assert_eq(open(path, O_RDWR), -1, "another user opened it for writing");
		cr_assert_eq(truncate(path, 0), -1);
		return;
	}
	/*
	 * The same user may open it again. Even then it cannot be made shorter, which would cause a SIGBUS
	 * in the victim.
	 */
	again = open(path, O_RDWR | O_CLOEXEC);
	if (again >= 0) {
		cr_assert_eq(ftruncate(again, 0), -1);
		cr_assert_eq(fcntl(again, F_ADD_SEALS, F_SEAL_WRITE), -1);
		close(again);
	}
}

Test(hostile_reach, a_peer_cannot_alter_the_region_that_it_gets)
{
	struct meeting m = meet(NULL);
	struct stat st;
	int status;
	pid_t pid;

	cr_assert_eq(fstat(m.offered, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0400);
	try_to_alter(m.offered, st.st_size, true);
	pid = fork();
	if (!pid) {
		if (getuid() == 0)
			cr_assert_eq(setgid(NOBODY) | setuid(NOBODY), 0);
		/*
		 * Otherwise /proc/self itself would not be accessible, and the mode of the memfd would not
		 * be tested.
		 */
		prctl(PR_SET_DUMPABLE, 1);
		try_to_alter(m.offered, st.st_size, getuid() != NOBODY);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0, "as another user: %x", status);
	part(&m);
}
