/* SPDX-License-Identifier: MIT */
/*
 * The child processes that close descriptors whose close sleeps: when their number is at its limit, when
 * none can be made, and that they end.
 */
#include "hostile/lingering.h"
#include "sandbox.h"

TestSuite(hostile_children, .timeout = 120);

static void no_clone(void)
{
	static const struct forbidden rules[] = {
		{ .call = SYS_clone, .error = EPERM },
		{ .call = SYS_clone3, .error = ENOSYS },
	};

	forbid(rules, 2);
}

/* If no child can be made, the descriptor stays open, and no call waits for it. */
static void accept_without_children(void *unused)
{
	struct attacker a = { 0 };
	bufpipe_listener_t *listener = listen_for(&a);
	bufpipe_t *pipe;
	int64_t begin;

	(void)unused;
	attacker_start(&a, offer_lingering);
	no_clone();
	begin = time_now();
	while (readable(a.told) == 0)
		check_eq(bufpipe_accept(listener, &pipe, 20 * MSEC), -ETIMEDOUT);
	check(attacker_has_sent(&a));
	check_eq(bufpipe_accept(listener, &pipe, 300 * MSEC), -ETIMEDOUT);
	bufpipe_listener_close(listener);
	check(elapsed(begin) < SOON);
	attacker_stop(&a);
}

Test(hostile_children, a_client_brings_a_lingering_socket_where_no_child_can_be_made)
{
	struct child child = child_start(accept_without_children, NULL);

	child_join(&child);
}

/* More of these descriptors come than there may be children. */
static void many_at_once(void *unused)
{
	struct attacker a = { 0 };
	bufpipe_listener_t *listener = listen_for(&a);
	int before = descriptors_open();
	int64_t end;
	bufpipe_t *pipe;

	(void)unused;
	for (int i = 0; i < 40; i++) {
		struct attacker each = { 0 };
		int64_t begin = time_now();

		memcpy(each.address, a.address, sizeof(a.address));
		attacker_start(&each, offer_lingering);
		while (readable(each.told) == 0)
			bufpipe_accept(listener, &pipe, 5 * MSEC);
		attacker_has_sent(&each);
		bufpipe_accept(listener, &pipe, 0);
		check(elapsed(begin) < SOON);
		close(each.child.report);
		close(each.told);
	}
	honest_visit(listener, a.address, NULL);
	/* None of them stays open. */
	end = time_now() + 5 * SOON;
	while (descriptors_open() > before && time_now() < end)
		bufpipe_accept(listener, &pipe, 5 * MSEC);
	check_eq(descriptors_open(), before);
	bufpipe_listener_close(listener);
}

Test(hostile_children, more_clients_bring_lingering_sockets_than_there_may_be_children)
{
	struct child child = child_start(many_at_once, NULL);

	child_join(&child);
}

/* How many children of this process still run. */
static int children_at_work(void)
{
	char path[64];
	char state;
	int pid;
	int n = 0;
	FILE *list;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	list = fopen(path, "re");
	if (!list)
		return -1;
	while (fscanf(list, "%d", &pid) == 1) {
		FILE *stat;

		snprintf(path, sizeof(path), "/proc/%d/stat", pid);
		stat = fopen(path, "re");
		if (!stat)
			continue;
		n += fscanf(stat, "%*d %*s %c", &state) == 1 && state != 'Z' && state != 'X';
		fclose(stat);
	}
	fclose(list);
	return n;
}

/* The library tells the sockets not to linger. Otherwise each could keep a child for as long as it likes. */
static void children_end(void *unused)
{
	struct attacker a[4] = { 0 };
	bufpipe_listener_t *listener = listen_for(&a[0]);
	bufpipe_t *pipe;
	int64_t end;

	(void)unused;
	if (children_at_work() < 0)
		return;
	for (int i = 0; i < 4; i++) {
		memcpy(a[i].address, a[0].address, sizeof(a[i].address));
		attacker_start(&a[i], offer_lingering);
		while (readable(a[i].told) == 0)
			bufpipe_accept(listener, &pipe, 5 * MSEC);
		check(attacker_has_sent(&a[i]));
		bufpipe_accept(listener, &pipe, 20 * MSEC);
	}
	/* The attackers stay, because the lingering would end with the last of them. */
	end = time_now() + SOON;
	while (children_at_work() > 4)
		check(time_now() < end);
	for (int i = 0; i < 4; i++)
		attacker_stop(&a[i]);
	bufpipe_listener_close(listener);
}

Test(hostile_children, a_child_that_closes_a_lingering_socket_soon_ends)
{
	struct child child;

	need_stray_children();
	child = child_start(children_end, NULL);
	child_join(&child);
}
