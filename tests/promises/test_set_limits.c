/* SPDX-License-Identifier: MIT */
/*
 * Sets without io_uring, at the limits of the process, and with more events at once than an io_uring holds.
 */
#include "asleep.h"
#include "sandbox.h"
#include "sets.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

SUITE(set_limits);

/* A short life of a set: messages, room, a death, a descriptor. */
static void use(bufpipe_set_t *set)
{
	bufpipe_t *ends[2], *doomed[2];
	struct child child;
	int fd = eventfd(0, EFD_CLOEXEC);

	pipe_open(ends, NULL);
	pipe_open(doomed, NULL);
	child = child_start(sit_on, doomed[IN]);
	bufpipe_close(doomed[OUT]);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	check_eq(bufpipe_set_add(set, ends[OUT], BUFPIPE_OUT, &ends[OUT]), 0);
	check_eq(bufpipe_set_add(set, doomed[IN], BUFPIPE_IN, doomed), 0);
	check_eq(bufpipe_set_add_fd(set, fd, POLLIN, &fd), 0);
	check_eq(set_expect(set, &ends[OUT], PLENTY), BUFPIPE_OUT);
	check_eq(bufpipe_set_modify(set, ends[OUT], 0, &ends[OUT]), 0);
	for (int i = 0; i < 10; i++) {
		set_expect_nothing(set);
		say(ends[OUT], "x");
		check_eq(set_expect(set, ends, PLENTY), BUFPIPE_IN);
		hear(ends[IN], "x");
	}
	check_eq(eventfd_write(fd, 1), 0);
	check_eq(set_expect(set, &fd, PLENTY), POLLIN);
	check_eq(bufpipe_set_remove_fd(set, fd), 0);
	child_kill(&child);
	check(set_expect(set, doomed, PROMPT) & BUFPIPE_HUP);
	for (int i = 0; i < 2; i++)
		check_eq(bufpipe_set_remove(set, ends[i]), 0);
	check_eq(bufpipe_set_remove(set, doomed[IN]), 0);
	pipe_close(ends);
	bufpipe_close(doomed[IN]);
	close(fd);
}

static void use_without(int call, int error)
{
	struct forbidden rule = { .call = call, .error = error };
	bufpipe_set_t *set;

	forbid(&rule, 1);
	set = set_open(0);
	check_eq(rings_open(), 0);
	use(set);
	bufpipe_set_destroy(set);
}

Test(set_limits, works_where_io_uring_is_there)
{
	bufpipe_set_t *set = set_open(0);

	if (!rings_open())
		cr_skip_test("there is no io_uring with futexes");
	use(set);
	bufpipe_set_destroy(set);
}

Test(set_limits, works_where_the_kernel_has_no_io_uring)
{
	use_without(SYS_io_uring_setup, ENOSYS);
}

/* The same answer as with the sysctl kernel.io_uring_disabled. */
Test(set_limits, works_where_io_uring_is_forbidden)
{
	use_without(SYS_io_uring_setup, EPERM);
}

Test(set_limits, works_where_io_uring_knows_no_futexes)
{
	use_without(SYS_io_uring_register, EINVAL);
}

/* The first set has found that io_uring works. Then a sandbox forbids it. */
Test(set_limits, works_where_io_uring_became_forbidden)
{
	struct forbidden rule = { .call = SYS_io_uring_setup, .error = EPERM };
	bufpipe_set_t *set = set_open(0);

	bufpipe_set_destroy(set);
	forbid(&rule, 1);
	set = set_open(0);
	check_eq(rings_open(), 0);
	use(set);
	bufpipe_set_destroy(set);
}

struct late_sender {
	bufpipe_t *pipe;
	pid_t receiver;
};

static void say_when_it_sleeps(void *arg)
{
	struct late_sender *s = arg;

	wait_until_asleep(0, s->receiver, ASLEEP_SET);
	say(s->pipe, "x");
}

/* The set itself looks at the pipes that the kernel could not be asked to watch. */
Test(set_limits, reports_soon_where_the_kernel_takes_no_requests)
{
	struct forbidden rule = { SYS_io_uring_enter, EAGAIN, .argument = 1, .mask = UINT32_MAX };
	bufpipe_set_t *set = set_open(0);
	struct late_sender sender;
	struct thread thread;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	forbid(&rule, 1);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	for (int i = 0; i < 3; i++) {
		sender = (struct late_sender){ ends[OUT], (pid_t)syscall(SYS_gettid) };
		thread_start(&thread, say_when_it_sleeps, &sender);
		check_eq(set_expect(set, ends, PROMPT), BUFPIPE_IN);
		hear(ends[IN], "x");
		thread_join(&thread);
	}
	bufpipe_set_destroy(set);
	pipe_close(ends);
}

Test(set_limits, goes_on_when_a_sandbox_begins_to_forbid_its_wait)
{
	struct forbidden rule = { SYS_io_uring_enter, EPERM, .argument = 1, .mask = UINT32_MAX };
	bufpipe_set_t *set = set_open(0);

	use(set);
	forbid(&rule, 1);
	use(set);
	check_eq(rings_open(), 0);
	bufpipe_set_destroy(set);
}

BOTH(set_limits, works_where_membarriers_become_forbidden)
{
	struct forbidden rule = { .call = SYS_membarrier, .error = EPERM };
	bufpipe_set_t *set = set_open(flags);

	use(set);
	forbid(&rule, 1);
	use(set);
	bufpipe_set_destroy(set);
}

BOTH(set_limits, needs_no_locked_memory)
{
	struct rlimit none = { 0, 0 };
	bufpipe_set_t *set;

	check_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	set = set_open(flags);
	use(set);
	bufpipe_set_destroy(set);
}

BOTH(set_limits, says_so_when_there_are_no_descriptors_left_and_recovers)
{
	struct rlimit old, limit;
	bufpipe_set_t *set = NULL;
	int first;
	int rings;

	check_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	first = eventfd(0, EFD_CLOEXEC);
	close(first);
	limit = old;
	for (int spare = 0; spare < 3; spare++) {
		limit.rlim_cur = (rlim_t)first + (rlim_t)spare;
		check_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		if (bufpipe_set_create(&set, flags) == 0) {
			bufpipe_set_destroy(set);
			check(spare == 2); /* a set that uses epoll needs no more than two */
		} else {
			check_eq(bufpipe_set_create(&set, flags), -EMFILE);
		}
	}
	check_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	set = set_open(flags);
	use(set);
	/* The lack of descriptors must not be taken for a lack of io_uring. */
	rings = rings_open();
	bufpipe_set_destroy(set);
	set = set_open(flags);
	check_eq(rings_open(), rings);
	bufpipe_set_destroy(set);
}

/* The completion queue has 4096 entries. Events that do not fit are not lost. */
BOTH(set_limits, reports_all_when_more_fire_at_once_than_the_ring_of_io_uring_holds)
{
	enum { DESCRIPTORS = 5000, BATCH = 100 };
	struct rlimit limit = { DESCRIPTORS + 200, DESCRIPTORS + 200 };
	static unsigned char seen[DESCRIPTORS];
	struct bufpipe_event events[BATCH];
	bufpipe_set_t *set = set_open(flags);
	int missing = DESCRIPTORS;
	static int fds[DESCRIPTORS];
	int trigger;

	check_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	/* All are one object, so that one write makes all of them fire at once. */
	trigger = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (int i = 0; i < DESCRIPTORS; i++) {
		fds[i] = fcntl(trigger, F_DUPFD_CLOEXEC, 0);
		check(fds[i] >= 0);
		check_eq(bufpipe_set_add_fd(set, fds[i], POLLIN, &seen[i]), 0);
	}
	set_expect_nothing(set);
	check_eq(eventfd_write(trigger, 1), 0);
	for (int round = 0; missing && round < 10 * DESCRIPTORS / BATCH; round++) {
		int n = bufpipe_set_wait(set, events, BATCH, PLENTY);

		check(n >= 1);
		for (int i = 0; i < n; i++) {
			missing -= !*(unsigned char *)events[i].user;
			*(unsigned char *)events[i].user = 1;
		}
	}
	check_eq(missing, 0);
	bufpipe_set_destroy(set);
	for (int i = 0; i < DESCRIPTORS; i++)
		close(fds[i]);
	close(trigger);
}
