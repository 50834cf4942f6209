/* SPDX-License-Identifier: MIT */
/*
 * Who owns an address: servers that start at the same time, strangers that hold a lock, and processes that
 * fork.
 */
#include "asleep.h"
#include "sandbox.h"
#include "support.h"

#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

static char home[] = "/tmp/bufpipe-test-XXXXXX";
static char path[64];
static char lock_path[64];

static void leave(void)
{
	check_eq(chdir("/"), 0);
	check_eq(rmdir(home), 0); /* nothing has been left in the directory */
}

static void enter(void)
{
	support_begin();
	support_clean_up = leave;
	check(mkdtemp(home) != NULL);
	check_eq(chdir(home), 0);
	snprintf(path, sizeof(path), "%s/socket", home);
	snprintf(lock_path, sizeof(lock_path), "%s/.socket.lock", home);
}

TestSuite(listener, .init = enter, .timeout = 60 * SLOWER);

static bufpipe_listener_t *listen_at(const char *address)
{
	bufpipe_listener_t *listener;

	check_eq(bufpipe_listen(&listener, address, NULL), 0);
	return listener;
}

static void visit(void *arg)
{
	bufpipe_t *pipe;

	check_eq(bufpipe_connect(&pipe, arg, NULL, PLENTY), 0);
	say(pipe, "hello");
	bufpipe_close(pipe);
}

static void receive_visit(bufpipe_listener_t *listener, const char *address)
{
	struct child child = child_start(visit, (void *)(uintptr_t)address);
	bufpipe_t *pipe;

	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	hear(pipe, "hello");
	bufpipe_close(pipe);
	child_join(&child);
}

/* Makes a socket file on which nobody listens. */
static void leave_stale(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	strcpy(at.sun_path, path);
	check_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	close(fd);
}

enum { STARTERS = 6 };

struct race {
	_Atomic int ready;
	_Atomic int winners;
	_Atomic int losers;
	_Atomic int heard;
};

/* All of them listen at once. The one that succeeds serves one client. */
static void start(void *arg)
{
	struct race *race = arg;
	bufpipe_listener_t *listener;
	bufpipe_t *pipe;
	int r;

	race->ready++;
	while (race->ready < STARTERS)
		sched_yield();
	r = bufpipe_listen(&listener, path, NULL);
	if (r < 0) {
		check_eq(r, -EADDRINUSE);
		race->losers++;
		return;
	}
	race->winners++;
	check_eq(bufpipe_accept(listener, &pipe, PLENTY), 0);
	hear(pipe, "hello");
	race->heard++;
	bufpipe_close(pipe);
	/* Only after all others have tried, or a second one might rightly succeed. */
	while (race->losers < STARTERS - 1)
		sched_yield();
	bufpipe_listener_close(listener);
}

Test(listener, one_of_many_that_start_at_a_stale_socket_wins)
{
	const struct bufpipe_options patient = { .flags = BUFPIPE_WAIT_FOR_LISTENER };
	struct race *race = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct child children[STARTERS];
	bufpipe_t *pipe;

	for (int round = 0; round < 20; round++) {
		if (round % 2)
			leave_stale();
		*race = (struct race){ 0 };
		for (int i = 0; i < STARTERS; i++)
			children[i] = child_start(start, race);
		check_eq(bufpipe_connect(&pipe, path, &patient, PLENTY), 0);
		say(pipe, "hello");
		for (int i = 0; i < STARTERS; i++)
			child_join(&children[i]);
		bufpipe_close(pipe);
		check_eq(race->winners, 1);
		check_eq(race->heard, 1);
	}
}

Test(listener, a_stranger_that_locks_the_directory_delays_nobody)
{
	int fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int64_t begin = clock_ns();
	bufpipe_listener_t *listener;

	check_eq(flock(fd, LOCK_EX), 0);
	listener = listen_at(path);
	check(clock_ns() - begin < PROMPT);
	receive_visit(listener, path);
	bufpipe_listener_close(listener);
	close(fd);
}

static void on_signal(int number)
{
	(void)number;
}

static void listen_interruptibly(void *arg)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_INTERRUPTIBLE };
	const struct sigaction action = { .sa_handler = on_signal };
	bufpipe_listener_t *listener;
	int r;

	(void)arg;
	sigaction(SIGUSR1, &action, NULL);
	r = bufpipe_listen(&listener, path, &options);
	check(r == -EINTR || r == -EADDRINUSE);
}

/* Another process of the same program was stopped while it began to listen. */
Test(listener, a_lock_that_a_stopped_process_keeps_is_not_waited_for_long)
{
	int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int64_t begin = clock_ns();
	bufpipe_listener_t *listener;
	struct child child;

	check_eq(flock(fd, LOCK_EX), 0);
	check_eq(bufpipe_listen(&listener, path, NULL), -EADDRINUSE);
	check(clock_ns() - begin < PLENTY);
	child = child_start(listen_interruptibly, NULL);
	wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
	kill(child.pid, SIGUSR1);
	child_join(&child);
	/* A process that was killed leaves the lock file, unlocked. */
	close(fd);
	listener = listen_at(path);
	check_eq(access(lock_path, F_OK), -1);
	bufpipe_listener_close(listener);
}

static _Atomic bool enough_forks;

/* Each child has all that was open in the middle of a listen, and keeps it for a while. */
static void fork_without_end(void *arg)
{
	enum { AT_ONCE = 8 };
	pid_t children[AT_ONCE] = { 0 };

	(void)arg;
	for (unsigned i = 0; !enough_forks; i = (i + 1) % AT_ONCE) {
		if (children[i]) {
			kill(children[i], SIGKILL);
			check_eq(waitpid(children[i], NULL, 0), children[i]);
		}
		children[i] = fork();
		if (children[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	for (int i = 0; i < AT_ONCE; i++) {
		if (children[i] > 0) {
			kill(children[i], SIGKILL);
			check_eq(waitpid(children[i], NULL, 0), children[i]);
		}
	}
}

static void listen_beside_forks(void *arg)
{
	struct thread forker;

	(void)arg;
	thread_start(&forker, fork_without_end, NULL);
	for (int i = 0; i < 1000; i++)
		bufpipe_listener_close(listen_at(path));
	enough_forks = true;
	thread_join(&forker);
}

Test(listener, a_fork_in_another_thread_leaves_nothing_locked)
{
	struct child child = child_start(listen_beside_forks, NULL);

	child_join(&child);
	bufpipe_listener_close(listen_at(path));
	check_eq(access(lock_path, F_OK), -1);
}

static void listen_as_nobody(void *arg)
{
	bufpipe_listener_t *listener;

	(void)arg;
	check_eq(setgid(65534), 0);
	check_eq(setuid(65534), 0);
	listener = listen_at(path);
	bufpipe_listener_close(listener);
}

Test(listener, works_in_a_directory_that_cannot_be_read)
{
	struct child child;

	if (geteuid())
		cr_skip_test("only root can be somebody else");
	check_eq(chown(home, 65534, 65534), 0);
	check_eq(chmod(home, 0300), 0);
	child = child_start(listen_as_nobody, NULL);
	child_join(&child);
	leave_stale();
	check_eq(chown(path, 65534, 65534), 0);
	child = child_start(listen_as_nobody, NULL);
	child_join(&child);
}

Test(listener, the_socket_file_is_removed_also_after_a_chdir)
{
	bufpipe_listener_t *listener = listen_at("./socket");
	char sideways[128];

	check_eq(chdir("/"), 0);
	receive_visit(listener, path);
	bufpipe_listener_close(listener);
	check_eq(access(path, F_OK), -1);
	/* An address with a slash anywhere is a path. */
	check_eq(chdir(home), 0);
	check_eq(mkdir("sub", 0700), 0);
	listener = listen_at("sub/socket");
	receive_visit(listener, "sub/socket");
	bufpipe_listener_close(listener);
	check_eq(rmdir("sub"), 0);
	snprintf(sideways, sizeof(sideways), "..%s/socket", strrchr(home, '/'));
	listener = listen_at(sideways);
	receive_visit(listener, path);
	bufpipe_listener_close(listener);
	check_eq(access(path, F_OK), -1);
	check_eq(bufpipe_listen(&listener, "./", NULL), -EINVAL);
}

/* The longest addresses that the kernel takes. */
Test(listener, the_longest_addresses_work_and_longer_ones_are_refused)
{
	for (int abstract = 0; abstract < 2; abstract++) {
		for (int len = 106; len <= 109; len++) {
			bufpipe_listener_t *listener;
			bufpipe_t *pipe;
			char address[128];

			snprintf(address, sizeof(address), "%s%d", abstract ? "@bufpipe-test-" : "./",
				 getpid());
			memset(address + strlen(address), 'x', sizeof(address) - strlen(address));
			address[len] = '\0';
			if (len > 108) {
				check_eq(bufpipe_listen(&listener, address, NULL), -ENAMETOOLONG);
				check_eq(bufpipe_connect(&pipe, address, NULL, 0), -ENAMETOOLONG);
				continue;
			}
			listener = listen_at(address);
			receive_visit(listener, address);
			bufpipe_listener_close(listener);
		}
	}
}

Test(listener, the_socket_file_has_the_mode_that_was_asked_for)
{
	static const unsigned modes[] = { 0, 0600, 0660, 0666, 0777 };
	bufpipe_listener_t *listener;
	struct stat st;

	umask(027);
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
		struct bufpipe_options options = { .mode = modes[i] };

		check_eq(bufpipe_listen(&listener, path, &options), 0);
		check_eq(stat(path, &st), 0);
		check_eq(st.st_mode & 07777, modes[i] ? modes[i] : 0750);
		bufpipe_listener_close(listener);
	}
	check_eq(bufpipe_listen(&listener, path, &(struct bufpipe_options){ .mode = 01000 }), -EINVAL);
}

static void sleep_on(void *arg)
{
	(void)arg;
	for (;;)
		pause();
}

static void be_refused(void *arg)
{
	bufpipe_t *pipe;
	int r = bufpipe_connect(&pipe, arg, NULL, PLENTY);

	check(r == -ECONNRESET || r == -ECONNREFUSED);
}

/* A worker has inherited the descriptors, and never closes the listener. */
Test(listener, a_close_by_its_owner_closes_it_although_others_inherited_it)
{
	char name[64];
	const char *addresses[] = { name, path };

	snprintf(name, sizeof(name), "@bufpipe-test-listener-%d", getpid());
	for (int i = 0; i < 2; i++) {
		bufpipe_listener_t *listener = listen_at(addresses[i]);
		struct child waits = child_start(be_refused, (void *)(uintptr_t)addresses[i]);
		struct child under_way = child_start(be_refused, (void *)(uintptr_t)addresses[i]);
		struct child worker;
		bufpipe_t *pipe;
		int64_t begin;

		wait_until_asleep(waits.pid, waits.pid, ASLEEP_ANY);
		wait_until_asleep(under_way.pid, under_way.pid, ASLEEP_ANY);
		worker = child_start(sleep_on, NULL);
		wait_until_asleep(worker.pid, worker.pid, ASLEEP_PAUSE);
		begin = clock_ns();
		bufpipe_listener_close(listener);
		child_join(&waits);
		child_join(&under_way);
		check_eq(bufpipe_connect(&pipe, addresses[i], NULL, PLENTY), i ? -ENOENT : -ECONNREFUSED);
		check(clock_ns() - begin < PROMPT);
		if (i) {
			listener = listen_at(path);
			receive_visit(listener, path);
			bufpipe_listener_close(listener);
		}
		child_kill(&worker);
	}
}

enum { WORKERS = 3, VISITS = 30 };

struct work {
	bufpipe_listener_t *listener;
	_Atomic int *served;
};

static void work(void *arg)
{
	const struct work *w = arg;
	bufpipe_t *pipe;
	int r;

	while ((r = bufpipe_accept(w->listener, &pipe, PLENTY)) == 0) {
		hear(pipe, "hello");
		++*w->served;
		bufpipe_close(pipe);
	}
	check_eq(r, -ESHUTDOWN);
	check_eq(bufpipe_accept(w->listener, &pipe, 0), -ESHUTDOWN);
	bufpipe_listener_close(w->listener);
}

Test(listener, several_processes_may_accept)
{
	struct work w = { .listener = listen_at(path) };
	struct child workers[WORKERS];
	struct child visitors[VISITS];

	w.served = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < WORKERS; i++)
		workers[i] = child_start(work, &w);
	for (int i = 0; i < VISITS; i++)
		visitors[i] = child_start(visit, path);
	for (int i = 0; i < VISITS; i++)
		child_join(&visitors[i]);
	while (*w.served < VISITS)
		sleep_ns(MSEC);
	/* The parent still has the listener. Its close ends the listener for all. */
	bufpipe_listener_close(w.listener);
	for (int i = 0; i < WORKERS; i++)
		child_join(&workers[i]);
	check_eq(*w.served, VISITS);
}

/* The variable is static because AddressSanitizer does not notice that the thread leaves this function. */
static void *accept_while_cancelled(void *listener)
{
	static bufpipe_t *pipe;

	pthread_cancel(pthread_self());
	/* The first call may return an error at once, without a sleep. */
	check(bufpipe_accept(listener, &pipe, PLENTY) < 0);
	bufpipe_accept(listener, &pipe, PLENTY);
	pthread_testcancel();
	return NULL;
}

static void cancel_accept(bufpipe_listener_t *listener)
{
	pthread_t thread;
	void *result;

	check_eq(pthread_create(&thread, NULL, accept_while_cancelled, listener), 0);
	check_eq(pthread_join(thread, &result), 0);
	check(result == PTHREAD_CANCELED);
}

/* Out of descriptors, the listener pauses. The end of the pause makes its descriptor readable. */
Test(listener, its_descriptor_is_readable_again_after_an_accept_that_was_cancelled)
{
	bufpipe_listener_t *listener = listen_at("@bufpipe-test-cancelled-accept");
	struct pollfd p = { .fd = bufpipe_listener_fd(listener), .events = POLLIN };
	struct rlimit limit, none;
	struct child child;
	bufpipe_t *pipe;
	int lowest, r;

	need_limits();
	cancel_accept(listener); /* The C library may need a descriptor for the first one. */
	child = child_start(visit, (void *)(uintptr_t) "@bufpipe-test-cancelled-accept");
	check_eq(poll(&p, 1, (int)(PLENTY / MSEC)), 1);
	check_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	lowest = dup(0);
	check(lowest >= 0);
	close(lowest);
	none = limit;
	none.rlim_cur = (rlim_t)lowest;
	check_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	cancel_accept(listener);
	check_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	do {
		check_eq(poll(&p, 1, (int)(PLENTY / MSEC)), 1);
		r = bufpipe_accept(listener, &pipe, 0);
	} while (r == -EAGAIN);
	check_eq(r, 0);
	hear(pipe, "hello");
	bufpipe_close(pipe);
	child_join(&child);
	bufpipe_listener_close(listener);
}
