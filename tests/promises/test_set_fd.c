/* SPDX-License-Identifier: MIT */
/* Plain descriptors in a set, beside its pipes. */
#include "sets.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/un.h>

SUITE(set_fd);

static void set_expect_fd(bufpipe_set_t *set, const int *fd, unsigned wanted)
{
	struct bufpipe_event events[4];

	check_eq(bufpipe_set_wait(set, events, 4, PLENTY), 1);
	check(!events[0].pipe && events[0].user == fd);
	check_eq(events[0].events & wanted, wanted);
}

BOTH(set_fd, pipes_of_the_kernel_are_reported_while_they_are_readable_and_when_hung_up)
{
	bufpipe_set_t *set = set_open(flags);
	char buf[4];
	int fds[2];

	check_eq(pipe2(fds, O_CLOEXEC), 0);
	check_eq(bufpipe_set_add_fd(set, fds[0], POLLIN, &fds[0]), 0);
	set_expect_nothing(set);
	check_eq(write(fds[1], "abc", 3), 3);
	for (int i = 0; i < 3; i++) {
		set_expect_fd(set, &fds[0], POLLIN);
		check_eq(read(fds[0], buf, 1), 1);
	}
	set_expect_nothing(set);
	check_eq(bufpipe_set_add_fd(set, fds[1], POLLOUT, &fds[1]), 0);
	set_expect_fd(set, &fds[1], POLLOUT);
	check_eq(bufpipe_set_remove_fd(set, fds[1]), 0);
	close(fds[1]);
	set_expect_fd(set, &fds[0], POLLHUP);
	set_expect_fd(set, &fds[0], POLLHUP);
	check_eq(bufpipe_set_remove_fd(set, fds[0]), 0);
	set_expect_nothing(set);
	close(fds[0]);
	bufpipe_set_destroy(set);
}

BOTH(set_fd, timers_signals_processes_and_sockets_are_served_beside_pipes)
{
	bufpipe_set_t *set = set_open(flags);
	struct itimerspec once = { .it_value.tv_nsec = 2000000 };
	struct signalfd_siginfo info;
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int sockets[2], process, signals;
	struct child child;
	bufpipe_t *ends[2];
	bufpipe_t *kept[2];
	sigset_t mask;
	uint64_t count;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	check_eq(pthread_sigmask(SIG_BLOCK, &mask, NULL), 0);
	signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	sockets_open(sockets, SOCK_STREAM);
	pipe_open(ends, NULL);
	pipe_open(kept, NULL);
	child = child_start(sit_on, kept[IN]);
	process = (int)syscall(SYS_pidfd_open, child.pid, 0);
	check(timer >= 0 && signals >= 0 && process >= 0);
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, ends), 0);
	check_eq(bufpipe_set_add_fd(set, timer, POLLIN, &timer), 0);
	check_eq(bufpipe_set_add_fd(set, signals, POLLIN, &signals), 0);
	check_eq(bufpipe_set_add_fd(set, process, POLLIN, &process), 0);
	check_eq(bufpipe_set_add_fd(set, sockets[0], POLLIN | POLLRDHUP, &sockets[0]), 0);
	set_expect_nothing(set);

	for (int i = 0; i < 2; i++) {
		check_eq(timerfd_settime(timer, 0, &once, NULL), 0);
		set_expect_fd(set, &timer, POLLIN);
		check_eq(read(timer, &count, sizeof(count)), sizeof(count));
		check_eq(kill(getpid(), SIGUSR2), 0);
		set_expect_fd(set, &signals, POLLIN);
		check_eq(read(signals, &info, sizeof(info)), sizeof(info));
		check_eq(send(sockets[1], "s", 1, 0), 1);
		set_expect_fd(set, &sockets[0], POLLIN);
		check_eq(recv(sockets[0], &count, 1, 0), 1);
		say(ends[OUT], "pipe");
		check_eq(set_expect(set, ends, PLENTY), BUFPIPE_IN);
		hear(ends[IN], "pipe");
		set_expect_nothing(set);
	}
	shutdown(sockets[1], SHUT_WR);
	set_expect_fd(set, &sockets[0], POLLIN | POLLRDHUP);
	check_eq(bufpipe_set_remove_fd(set, sockets[0]), 0);
	child_kill(&child);
	set_expect_fd(set, &process, POLLIN);
	bufpipe_set_destroy(set);
	pipe_close(ends);
	pipe_close(kept);
	sockets_close(sockets);
	close(timer);
	close(signals);
	close(process);
}

/* The caller had no room for some ready descriptors. They are reported later only if they are still ready. */
BOTH(set_fd, a_descriptor_that_was_emptied_before_its_turn_is_not_reported)
{
	enum { MANY = 6 };
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event event;
	eventfd_t count;
	int fds[MANY];

	for (int i = 0; i < MANY; i++) {
		fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		check_eq(bufpipe_set_add_fd(set, fds[i], POLLIN, &fds[i]), 0);
	}
	check_eq(bufpipe_set_wait(set, &event, 1, PLENTY), 1);
	for (int i = 0; i < MANY; i++)
		check_eq(eventfd_read(fds[i], &count), 0);
	set_expect_nothing(set);
	check_eq(eventfd_write(fds[3], 1), 0);
	set_expect_fd(set, &fds[3], POLLIN);
	bufpipe_set_destroy(set);
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
}

BOTH(set_fd, many_ready_descriptors_take_turns_with_pipes)
{
	enum { MANY = 100, MOST = 9 };
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event events[MOST];
	int seen[MANY + 1] = { 0 };
	bufpipe_t *ends[2];
	int fds[MANY];

	pipe_open(ends, NULL);
	say(ends[OUT], "x");
	check_eq(bufpipe_set_add(set, ends[IN], BUFPIPE_IN, &seen[MANY]), 0);
	for (int i = 0; i < MANY; i++) {
		fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		check_eq(bufpipe_set_add_fd(set, fds[i], POLLIN, &seen[i]), 0);
	}
	for (int round = 0; round < MANY; round++) {
		int n = bufpipe_set_wait(set, events, MOST, PLENTY);

		check(n >= 1);
		for (int i = 0; i < n; i++)
			++*(int *)events[i].user;
	}
	for (int i = 0; i <= MANY; i++)
		check(seen[i] >= 2);
	bufpipe_set_destroy(set);
	pipe_close(ends);
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
}

/* There are more descriptors than a sleeper gets at a time. Each of them must be reported again and again. */
static void take_turns(unsigned flags, int many, unsigned max)
{
	bufpipe_set_t *set = set_open(flags);
	struct bufpipe_event events[8];
	int seen[192] = { 0 };
	int fds[192];

	for (int i = 0; i < many; i++) {
		fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		check_eq(bufpipe_set_add_fd(set, fds[i], POLLIN, &seen[i]), 0);
	}
	for (int left = 4 * many; left > 0;) {
		int n = bufpipe_set_wait(set, events, max, PLENTY);

		check(n >= 1);
		left -= n;
		for (int i = 0; i < n; i++)
			++*(int *)events[i].user;
	}
	for (int i = 0; i < many; i++)
		check(seen[i] >= 2);
	bufpipe_set_destroy(set);
	for (int i = 0; i < many; i++)
		close(fds[i]);
}

BOTH(set_fd, none_of_many_ready_descriptors_starves)
{
	const int counts[] = { 64, 65, 128, 192 };

	for (int i = 0; i < 4; i++) {
		take_turns(flags, counts[i], 1);
		take_turns(flags, counts[i], 8);
	}
}

BOTH(set_fd, a_number_that_is_used_again_after_removal_is_a_new_descriptor)
{
	bufpipe_set_t *set = set_open(flags);
	int first = -1;

	for (int i = 0; i < 20; i++) {
		int fd = eventfd(0, EFD_CLOEXEC);

		check(i == 0 || fd == first);
		first = fd;
		check_eq(bufpipe_set_add_fd(set, fd, POLLIN, &fd), 0);
		check_eq(bufpipe_set_wait(set, &(struct bufpipe_event){ 0 }, 1, i % 2 ? MSEC : 0), 0);
		check_eq(eventfd_write(fd, 1), 0);
		if (i % 3 == 0)
			set_expect_fd(set, &fd, POLLIN);
		check_eq(bufpipe_set_remove_fd(set, fd), 0);
		close(fd);
		set_expect_nothing(set);
	}
	bufpipe_set_destroy(set);
}

/* A set does not keep open what was removed from it. The other side of a socket finds it closed. */
BOTH(set_fd, a_socket_that_was_removed_and_closed_is_closed)
{
	bufpipe_set_t *set = set_open(flags);
	struct pollfd p = { .events = POLLIN };
	int sockets[2];

	sockets_open(sockets, SOCK_STREAM);
	check_eq(bufpipe_set_add_fd(set, sockets[0], POLLIN, NULL), 0);
	set_expect_nothing(set);
	check_eq(bufpipe_set_remove_fd(set, sockets[0]), 0);
	close(sockets[0]);
	p.fd = sockets[1];
	check_eq(poll(&p, 1, (int)(PROMPT / MSEC)), 1);
	check(p.revents & POLLHUP);
	bufpipe_set_destroy(set);
	close(sockets[1]);
}
