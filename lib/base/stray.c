/* SPDX-License-Identifier: MIT */
#include "base/stray.h"

#include "base/sys.h"
#include "base/thread.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>

/* The kernel frees a GiB of memory in about 100 ms.  A memfd of up to this size we close ourselves. */
#define FREE_AT_ONCE (16 << 20)
#define STACK_SIZE   16384

/* A child that has run for this long is stuck in a close. */
#define STUCK NSEC_PER_SEC
/* A child that started more recently than this may only be waiting for a CPU. */
#define YOUNG        (NSEC_PER_SEC / 50)
#define WAITING_MOST 512

enum { FREE, CLAIMED }; /* or the pid of the child */

struct child {
	_Atomic pid_t state;
	pid_t parent;
	uint32_t process;
	_Atomic int64_t since; /* when it began */
	_Alignas(16) char stack[STACK_SIZE];
};

static struct child children[STRAY_MOST];

/*
 * Descriptors to close: process << 32 | descriptor, or 0 for a free place.  Any
 * thread puts one in, and a child takes it out.  An entry that a process inherited
 * by fork is closed by its parent, so the place of such an entry is free as well.
 */
static _Atomic uint64_t waiting[WAITING_MOST];

enum stray_kind stray_kind(int fd)
{
	int domain;
	socklen_t len = sizeof(domain);

	/* Only memory files have seals, and the kernel asks no file system for them. */
	if (fcntl(fd, F_GET_SEALS) >= 0)
		return STRAY_MEMORY;
	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 ? STRAY_SOCKET : STRAY_OTHER;
}

/*
 * A system call of the child.  The C library would store an error in errno, which
 * is here the errno of the thread that made the child.
 */
static inline __attribute__((always_inline)) long call(long number, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return r;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
	return x0;
#elif defined(__riscv)
	register long a7 __asm__("a7") = number;
	register long a0 __asm__("a0") = a;
	register long a1 __asm__("a1") = b;
	register long a2 __asm__("a2") = c;
	register long a3 __asm__("a3") = d;
	register long a4 __asm__("a4") = e;

	__asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4) : "memory");
	return a0;
#else
	return syscall(number, a, b, c, d, e);
#endif
}

/*
 * Switches SO_LINGER off before the close, because nobody can do so during the
 * close.  Otherwise a thousand lingering sockets would keep all children busy for as
 * long as their maker likes.
 */
static inline __attribute__((always_inline)) void close_soon(int fd)
{
	static const struct linger never;

	call(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, (long)(intptr_t)&never, sizeof(never));
	call(SYS_close, fd, 0, 0, 0, 0);
}

/*
 * The main function of the child.  If we die, the kernel kills the child: the
 * signal ends a lingering close, and frees the descriptors that the child shares
 * with us.
 */
__attribute__((no_sanitize("address", "thread", "undefined"))) static int close_waiting(void *arg)
{
	const struct child *c = arg;

	call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (call(SYS_getppid, 0, 0, 0, 0, 0) != c->parent)
		return 0;
	for (int i = 0; i < WAITING_MOST; i++) {
		/* Acquire pairs with the release in put. */
		uint64_t entry = atomic_exchange_explicit(&waiting[i], 0, memory_order_acquire);

		if (entry >> 32 == c->process)
			close_soon((int)entry);
	}
	return 0;
}

static bool put(int fd)
{
	uint64_t process = thread_process();

	for (int i = 0; i < WAITING_MOST; i++) {
		uint64_t entry = atomic_load_explicit(&waiting[i], memory_order_relaxed);

		if (entry >> 32 != process &&
		    atomic_compare_exchange_strong_explicit(&waiting[i], &entry, process << 32 | (uint32_t)fd,
							    memory_order_release, memory_order_relaxed))
			return true;
	}
	return false;
}

/* Whether the child has ended.  A child of our parent, inherited by fork, counts as gone: waitpid fails. */
static bool has_gone(pid_t pid)
{
	pid_t r;

	do
		r = waitpid(pid, NULL, WNOHANG | __WCLONE);
	while (r < 0 && errno == EINTR);
	return r != 0;
}

/* Takes the place of a child that has ended.  Kills a stuck one, which ends a lingering close, not FUSE. */
static bool claim(struct child *c)
{
	pid_t state = atomic_load_explicit(&c->state, memory_order_relaxed);

	/* Acquire pairs with the release in start and below: now only we use the stack and the pid. */
	if (state == CLAIMED ||
	    !atomic_compare_exchange_strong_explicit(&c->state, &state, CLAIMED, memory_order_acquire,
						     memory_order_relaxed))
		return false;
	if (state == FREE || has_gone(state))
		return true;
	if (time_now() - atomic_load_explicit(&c->since, memory_order_relaxed) > STUCK)
		kill(state, SIGKILL);
	atomic_store_explicit(&c->state, state, memory_order_release);
	return false;
}

static struct child *find_free(void)
{
	for (int i = 0; i < STRAY_MOST; i++) {
		if (claim(&children[i]))
			return &children[i];
	}
	return NULL;
}

/* Blocks all signals meanwhile: a handler of the program that ran in the child would use our memory. */
static void start(struct child *c)
{
	sigset_t all;
	sigset_t before;
	pid_t pid;

	c->parent = getpid();
	c->process = thread_process();
	atomic_store_explicit(&c->since, time_now(), memory_order_relaxed);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	/* Exit signal 0: the program gets no SIGCHLD, and its calls of wait do not see this child. */
	pid = clone(close_waiting, c->stack + STACK_SIZE, CLONE_VM | CLONE_FILES, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	atomic_store_explicit(&c->state, pid > 0 ? pid : FREE, memory_order_release);
}

/* Whether a child started a short time ago: it is most likely not stuck, and ends soon. */
static bool some_are_young(void)
{
	int64_t now = time_now();
	bool young = false;

	for (int i = 0; i < STRAY_MOST; i++)
		young |= now - atomic_load_explicit(&children[i].since, memory_order_relaxed) < YOUNG;
	return young;
}

/* ThreadSanitizer does not support a child that shares our memory. */
#ifdef __SANITIZE_THREAD__
#define MAY_SHARE_MEMORY false
#else
#define MAY_SHARE_MEMORY true
#endif

bool stray_is_laden(int fd)
{
	char names[256];

	/* The kernel stops when the buffer is full, so this takes no longer for more names. */
	return flistxattr(fd, names, sizeof(names)) < 0 && errno == ERANGE;
}

static bool is_small_memory(int fd)
{
	struct stat st;

	return stray_kind(fd) == STRAY_MEMORY && !stray_is_laden(fd) && fstat(fd, &st) == 0 &&
	       st.st_blocks <= FREE_AT_ONCE / 512;
}

void stray_close(int fd)
{
	const struct timespec moment = { .tv_nsec = 100000 };
	struct child *c;

	if (is_small_memory(fd) || !MAY_SHARE_MEMORY) {
		sys_close(fd);
		return;
	}
	if (!put(fd))
		return;
	c = find_free();
	while (!c && some_are_young()) {
		nanosleep(&moment, NULL);
		c = find_free();
	}
	if (c)
		start(c);
}
