/* SPDX-License-Identifier: MIT */
/*
 * Sleeping and waking alone, without a ring. A publisher changes a word, and the waiter sees the change in
 * whichever way it sleeps.
 */
#include "asleep.h"
#include "sandbox.h"
#include "support.h"

#include "sync/lock.h"
#include "sync/wait.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

SUITE(waiting);

/* The words that the two sides share, in one page. */
struct page {
	_Atomic uint64_t word;
	_Atomic uint64_t own;
	struct waiter_state waiter_state;
	struct waiter_state publisher_state;
	struct waiter_state unused; /* of the other direction, in which nothing happens */
	struct notify waiter_notify;
	struct notify publisher_notify;
	struct meter meter; /* of both; nobody reads it */
	struct lock waiter_door;
	struct lock publisher_door;
};

struct rig {
	struct page *page;
	struct wait waiter;
	struct wait publisher;
	int sockets[2];
};

static void rig_open(struct rig *rig, int64_t spin_ns, int64_t patience)
{
	struct page *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	check(page != MAP_FAILED);
	check_eq(lock_init(&page->waiter_door), 0);
	check_eq(lock_init(&page->publisher_door), 0);
	sockets_open(rig->sockets, SOCK_SEQPACKET);
	rig->page = page;
	rig->waiter = (struct wait){ .sleepers = FUTEX_FEW,
				     .theirs = &page->publisher_state,
				     .ours = &page->waiter_state,
				     .notify = &page->waiter_notify,
				     .meter = &page->meter,
				     .other = &page->unused,
				     .doorbell_lock = &page->waiter_door,
				     .socket = rig->sockets[0],
				     .spin_ns = spin_ns,
				     .patience = patience };
	rig->publisher = (struct wait){ .sleepers = FUTEX_FEW,
					.theirs = &page->waiter_state,
					.ours = &page->publisher_state,
					.notify = &page->publisher_notify,
					.meter = &page->meter,
					.other = &page->unused,
					.doorbell_lock = &page->publisher_door,
					.socket = rig->sockets[1],
					.spin_ns = spin_ns,
					.patience = patience };
	wait_init(&rig->waiter);
	wait_init(&rig->publisher);
}

static void rig_close(struct rig *rig)
{
	sockets_close(rig->sockets);
	munmap(rig->page, 4096);
}

/* Waits until the word is no longer value, however often somebody rings in vain. */
static int await(struct rig *rig, uint64_t value, int64_t deadline)
{
	struct look look = {
		.word = &rig->page->word, .own = &rig->page->own, .value = value, .wanted = value + 1
	};
	int r;

	do
		r = wait_until(&rig->waiter, &look, deadline);
	while (r == 0 && atomic_load_explicit(&rig->page->word, memory_order_acquire) == value);
	return r;
}

static int publish(struct rig *rig, uint64_t value)
{
	atomic_store_explicit(&rig->page->word, value, memory_order_release);
	return wait_notify(&rig->publisher, value);
}

struct waiter {
	struct rig *rig;
	uint64_t from;
	uint64_t to;
	int result;
};

static void wait_for_values(void *arg)
{
	struct waiter *w = arg;

	w->result = 0;
	for (uint64_t value = w->from; w->result == 0 && value < w->to;) {
		w->result = await(w->rig, value, time_deadline(PLENTY));
		value = atomic_load(&w->rig->page->word);
	}
}

static void wait_in_child(void *arg)
{
	struct waiter *w = arg;

	wait_for_values(w);
	check_eq(w->result, 0);
}

static const int64_t spins[] = { 0, BUFPIPE_NO_SPIN, BUFPIPE_SPIN_ALWAYS, 10 * USEC };

Test(waiting, ends_at_once_when_the_word_has_changed)
{
	for (int i = 0; i < 4; i++) {
		struct rig rig;

		rig_open(&rig, spins[i], MSEC);
		check_eq(publish(&rig, 1), 0);
		check_eq(await(&rig, 0, time_deadline(-1)), 0);
		check_eq(await(&rig, 1, time_deadline(3 * MSEC)), -ETIMEDOUT);
		rig_close(&rig);
	}
}

Test(waiting, ends_when_a_co_owner_moved_on)
{
	struct rig rig;
	struct look look;

	rig_open(&rig, 0, MSEC);
	look = (struct look){ .word = &rig.page->word, .own = &rig.page->own, .own_value = 5 };
	check_eq(wait_until(&rig.waiter, &look, time_deadline(PLENTY)), 0);
	rig_close(&rig);
}

Test(waiting, wakes_from_every_sleep)
{
	static const enum asleep how[] = { ASLEEP_ANY, ASLEEP_SOCKET };

	for (int i = 0; i < 4; i++) {
		struct waiter waiter = { .to = 1 };
		struct child child;
		struct rig rig;

		rig_open(&rig, i & 2 ? BUFPIPE_NO_SPIN : 0, 20 * MSEC);
		waiter.rig = &rig;
		child = child_start(wait_in_child, &waiter);
		wait_until_asleep(child.pid, child.pid, how[i & 1]);
		check_eq(publish(&rig, 1), 0);
		child_join(&child);
		rig_close(&rig);
	}
}

Test(waiting, loses_no_wake_up_in_ninety_thousand)
{
	for (int i = 0; i < 3; i++) {
		static const int64_t modes[] = { 0, BUFPIPE_NO_SPIN, 5 * USEC };
		struct waiter waiter = { .to = 30000 };
		struct child child;
		struct rig rig;

		/* Without patience each sleep is on the socket at once. So the modes together use every kind of sleep. */
		rig_open(&rig, modes[i], i == 1 ? 0 : 100 * MSEC);
		waiter.rig = &rig;
		child = child_start(wait_in_child, &waiter);
		for (uint64_t value = 1; value <= waiter.to; value++) {
			check_eq(publish(&rig, value), 0);
			if (value % 16 == 0)
				sched_yield();
		}
		child_join(&child);
		rig_close(&rig);
	}
}

Test(waiting, publisher_that_nobody_waits_for_makes_no_call)
{
	struct pollfd p;
	struct rig rig;
	uint32_t events;

	rig_open(&rig, 0, MSEC);
	check_eq(publish(&rig, 1), 0);
	events = atomic_load(&rig.page->publisher_state.events);
	for (uint64_t value = 2; value < 1000; value++)
		check_eq(publish(&rig, value), 0);
	check_eq(atomic_load(&rig.page->publisher_state.events), events);
	p = (struct pollfd){ .fd = rig.sockets[0], .events = POLLIN };
	check_eq(poll(&p, 1, 0), 0);
	rig_close(&rig);
}

/* Waits so many times, and consumes so many messages of so many bytes each time. */
static void consume(struct rig *rig, int waits, int each, int bytes)
{
	while (waits--) {
		uint64_t value = atomic_load(&rig->page->word);
		uint64_t next = value + (uint64_t)(each * bytes);

		check_eq(publish(rig, next), 0);
		for (int i = 0; i < each; i++)
			check_eq(wait_notify(&rig->waiter, next), 0);
		check_eq(await(rig, value, time_deadline(PLENTY)), 0);
	}
}

Test(waiting, tells_the_publisher_of_a_dialogue_and_of_a_stream)
{
	struct rig rig;

	rig_open(&rig, BUFPIPE_SPIN_ALWAYS, MSEC);
	check(wait_streams(&rig.publisher));
	for (int i = 0; i < 2; i++) {
		consume(&rig, 20, 1, 1);
		check(!wait_streams(&rig.publisher));
		consume(&rig, 1, 3, 1);
		check(wait_streams(&rig.publisher));
	}
	rig_close(&rig);
}

Test(waiting, knows_a_stream_and_a_long_distance_without_a_wait)
{
	struct rig rig;

	rig_open(&rig, BUFPIPE_SPIN_ALWAYS, MSEC);
	check(!wait_flows(&rig.waiter, 1 << 20));
	for (int i = 0; i < 2; i++) {
		/* A dialogue: one message for each wait. */
		consume(&rig, 20, 1, 1000);
		check(!wait_flows(&rig.waiter, atomic_load(&rig.waiter.place)));
		check(!wait_flows(&rig.waiter, atomic_load(&rig.waiter.place) + 60000));
		check(wait_flows(&rig.waiter, atomic_load(&rig.waiter.place) + 70000));
		consume(&rig, 20, 10, 1000);
		check(wait_flows(&rig.waiter, atomic_load(&rig.waiter.place)));
	}
	rig_close(&rig);
}

/* The length of the receiver's pause before its first look, after all these waits. */
static uint32_t pauses_after(int waits, int each, int bytes, bool may_linger, int remote)
{
	uint32_t pauses;
	struct rig rig;

	rig_open(&rig, BUFPIPE_SPIN_ALWAYS, MSEC);
	rig.waiter.may_linger = may_linger;
	atomic_store(&rig.page->publisher_state.remote, remote);
	consume(&rig, waits, each, bytes);
	pauses = atomic_load(&rig.waiter.pauses);
	rig_close(&rig);
	return pauses;
}

Test(waiting, pauses_longer_only_in_a_long_stream_of_large_remote_messages)
{
	const uint32_t usual = pauses_after(20, 16, 4096, false, 0);
	const uint32_t longest = pauses_after(20, 16, 4096, true, 1);

	check(longest > usual && longest < 4 * usual);
	check_eq(pauses_after(20, 16, 4096, false, 1), usual);
	check_eq(pauses_after(20, 16, 4096, true, -1), usual);
	check_eq(pauses_after(20, 16, 64, true, 1), usual);
	check_eq(pauses_after(1, 16, 4096, true, 1), usual);
	check(pauses_after(2, 16, 4096, true, 1) < longest);
	/* A dialogue in which two messages go each way. */
	check_eq(pauses_after(20, 2, 8192, true, 1), pauses_after(20, 2, 8192, false, 1));
}

/* A brief waiter does not say that it waits, so others may wait on its end in the same way. */
Test(waiting, a_brief_wait_raises_no_flag)
{
	for (int i = 0; i < 2; i++) {
		struct rig rig;
		struct look look;

		rig_open(&rig, 0, MSEC);
		look = (struct look){ .word = &rig.page->word, .own = &rig.page->own, .wanted = 1 };
		check(!wait_briefly(&rig.waiter, &look));
		atomic_store(i ? &rig.page->own : &rig.page->word, 1);
		check(wait_briefly(&rig.waiter, &look));
		rig.waiter.spin_ns = BUFPIPE_NO_SPIN;
		check(!wait_briefly(&rig.waiter, &look));
		check_eq(atomic_load(&rig.page->waiter_state.flags), 0);
		check_eq(atomic_load(&rig.page->waiter_state.raises), 0);
		rig_close(&rig);
	}
}

Test(waiting, leaves_no_flag_up)
{
	for (int i = 0; i < 4; i++) {
		struct rig rig;

		rig_open(&rig, spins[i], MSEC);
		check_eq(await(&rig, 0, time_deadline(10 * MSEC)), -ETIMEDOUT);
		check_eq(atomic_load(&rig.page->waiter_state.flags) & WAITER_MODE, 0);
		rig_close(&rig);
	}
}

/* The event count has 32 bits and wraps. A waiter only compares it for equality. */
Test(waiting, event_count_wraps)
{
	for (int i = 0; i < 2; i++) {
		struct waiter waiter = { .to = 100 };
		struct child child;
		struct rig rig;

		rig_open(&rig, BUFPIPE_NO_SPIN, i ? 100 * MSEC : 0);
		atomic_store(&rig.page->publisher_state.events, UINT32_MAX - 3);
		waiter.rig = &rig;
		child = child_start(wait_in_child, &waiter);
		for (uint64_t value = 1; value <= waiter.to; value++) {
			wait_until_asleep(child.pid, child.pid, ASLEEP_ANY);
			check_eq(publish(&rig, value), 0);
		}
		child_join(&child);
		check(atomic_load(&rig.page->publisher_state.events) < UINT32_MAX - 3);
		rig_close(&rig);
	}
}

Test(waiting, notices_that_the_other_side_has_gone)
{
	for (int i = 0; i < 4; i++) {
		struct waiter waiter = { .to = 1 };
		struct thread thread;
		struct rig rig;
		int64_t begin;

		rig_open(&rig, i & 2 ? BUFPIPE_SPIN_ALWAYS : 0, 20 * MSEC);
		waiter.rig = &rig;
		thread_start(&thread, wait_for_values, &waiter);
		if (!(i & 2))
			wait_until_asleep(0, thread.tid, ASLEEP_ANY);
		begin = clock_ns();
		shutdown(rig.sockets[1], SHUT_RDWR);
		if (i & 1)
			wait_leave(&rig.publisher); /* a close; without this call, a death */
		thread_join(&thread);
		check_eq(waiter.result, -EPIPE);
		check(clock_ns() - begin < PROMPT);
		rig_close(&rig);
	}
}

/* The waiter sees what was published just before the end. */
Test(waiting, sees_the_last_word_before_the_end)
{
	struct rig rig;

	rig_open(&rig, 0, MSEC);
	check_eq(publish(&rig, 1), 0);
	shutdown(rig.sockets[1], SHUT_RDWR);
	wait_leave(&rig.publisher);
	check_eq(await(&rig, 0, time_deadline(PLENTY)), 0);
	check_eq(await(&rig, 1, time_deadline(PLENTY)), -EPIPE);
	rig_close(&rig);
}

/* A process that cannot issue membarriers says so, and then publishers fence. */
static void without_membarrier(void *arg)
{
	struct forbidden rule = { .call = SYS_membarrier, .error = ENOSYS };
	struct waiter waiter = { .to = 20000 };
	struct child child;
	struct rig rig;

	(void)arg;
	forbid(&rule, 1);
	rig_open(&rig, BUFPIPE_NO_SPIN, 100 * MSEC);
	check(rig.waiter.fence);
	check(atomic_load(&rig.page->waiter_state.flags) & WAITER_FENCE);
	check(atomic_load(&rig.page->publisher_state.flags) & WAITER_FENCE);
	waiter.rig = &rig;
	child = child_start(wait_in_child, &waiter);
	for (uint64_t value = 1; value <= waiter.to; value++)
		check_eq(publish(&rig, value), 0);
	child_join(&child);
	rig_close(&rig);
}

/*
 * Raises the flag. Returns whether that took less than the time after which all publishers have seen the flag.
 */
static bool raise_quickly(struct rig *rig, bool *ordered)
{
	int64_t begin = clock_ns();

	*ordered = wait_raise_and_order(&rig->waiter, 1, WAITER_FUTEX);
	return clock_ns() - begin < MSEC;
}

static void trust_in_fences(void *arg)
{
	struct forbidden rule = { .call = SYS_membarrier, .error = ENOSYS };
	int quick = 0;

	(void)arg;
	forbid(&rule, 1);
	for (int i = 0; i < 100; i++) {
		struct rig rig;
		bool ordered;

		rig_open(&rig, BUFPIPE_NO_SPIN, 100 * MSEC);
		if (raise_quickly(&rig, &ordered)) {
			quick++;
			check(!ordered);
			check(!(atomic_load(&rig.page->waiter_state.flags) & WAITER_FENCED));
		}
		sleep_ns(MSEC);
		check(wait_raise_and_order(&rig.waiter, 1, WAITER_FUTEX));
		check(atomic_load(&rig.page->waiter_state.flags) & WAITER_FENCED);
		rig_close(&rig);
	}
	check(quick > 0);
}

Test(waiting, without_membarriers_trusts_in_fences_only_after_a_while)
{
	struct child child = child_start(trust_in_fences, NULL);

	child_join(&child);
}

Test(waiting, without_membarriers_fences)
{
	struct child child = child_start(without_membarrier, NULL);

	child_join(&child);
}

/*
 * Another holder was counted as a waiter, and was held up before it stored how much room it wants. So the next
 * room wakes all holders, however often this holder stores meanwhile how much it wants itself.
 */
Test(waiting, an_unknown_want_of_another_holder_survives_a_wrap_of_the_number_of_raises)
{
	enum { ROOM = 10, WANTED = 1000 };
	struct waiter_state *state;
	struct rig rig;

	rig_open(&rig, BUFPIPE_NO_SPIN, 100 * MSEC);
	state = &rig.page->waiter_state;
	rig.waiter.sends = true;
	rig.waiter.seen = &rig.page->publisher_notify;
	rig.publisher.many_there = true;
	wait_raise(&rig.waiter, WANTED, WAITER_FD);
	check_eq(wait_notify(&rig.publisher, ROOM), 0);
	check_eq(atomic_load(&rig.page->publisher_notify.rung), 0);
	atomic_fetch_add(&state->raises, 1);
	for (int i = 0; i <= UINT16_MAX; i++) {
		wait_raise(&rig.waiter, WANTED, WAITER_FD);
		check(!wanted_holds(atomic_load(&state->wanted), atomic_load(&state->raises)));
	}
	check_eq(wait_notify(&rig.publisher, ROOM), 0);
	check_eq(atomic_load(&rig.page->publisher_notify.rung), atomic_load(&state->raises) << 8 | WAITER_FD);
	/* Now all are awake, and only wants that are written from here on count. */
	wait_raise(&rig.waiter, WANTED, WAITER_FD);
	check(wanted_holds(atomic_load(&state->wanted), atomic_load(&state->raises)));
	rig_close(&rig);
}

struct sleepers {
	struct rig *rig;
	_Atomic int ready;
	_Atomic int woken;
};

static void sleep_on_events(void *arg)
{
	struct sleepers *s = arg;

	atomic_fetch_add(&s->ready, 1);
	check_eq(sys_futex_wait(&s->rig->page->publisher_state.events, 0, time_now() + PLENTY), 0);
	atomic_fetch_add(&s->woken, 1);
}

/* A stop wakes them all, also where the other end is not shared. */
Test(waiting, stop_wakes_all_sleepers_of_this_end)
{
	struct thread threads[40];
	struct sleepers s = { 0 };
	struct rig rig;

	rig_open(&rig, BUFPIPE_NO_SPIN, 100 * MSEC);
	s.rig = &rig;
	for (int i = 0; i < 40; i++) {
		thread_start(&threads[i], sleep_on_events, &s);
		while (atomic_load(&s.ready) <= i)
			sleep_ns(100 * USEC);
		wait_until_asleep(0, threads[i].tid, ASLEEP_ANY);
	}
	wait_stop(&rig.waiter);
	for (int i = 0; i < 40; i++)
		thread_join(&threads[i]);
	check_eq(s.woken, 40);
	rig_close(&rig);
}

Test(waiting, the_plain_futex_times_out_as_futex_waitv_does)
{
	static _Atomic uint32_t word;
	struct forbidden rule = { .call = SYS_futex_waitv, .error = ENOSYS };

	for (int i = 0; i < 2; i++) {
		int64_t begin = time_now();

		check_eq(sys_futex_wait(&word, 1, begin + SEC), -EAGAIN);
		check_eq(sys_futex_wait(&word, 0, begin), -ETIMEDOUT);
		check_eq(sys_futex_wait(&word, 0, begin + 30 * MSEC), -ETIMEDOUT);
		check(time_now() - begin >= 30 * MSEC && time_now() - begin < PROMPT);
		forbid(&rule, 1);
	}
}
