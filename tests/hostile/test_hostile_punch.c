/* SPDX-License-Identifier: MIT */
/*
 * A peer that punches holes into its own memory, or lets many threads sleep on the victim's futex words. It
 * breaks its own pipe and no other.
 */
#include "hostile/hostile.h"

#include "end/options.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/resource.h>

TestSuite(hostile_punch, .timeout = 120);

/*
 * Punches the whole region, control page and ring, or one page after the other. A later store allocates the
 * page again.
 */
static void punch(const struct duel *d, uint64_t random)
{
	const struct region *region = &d->rogue->ours;
	off_t page = sysconf(_SC_PAGESIZE);
	off_t at = random % 4 ? 0 : (off_t)(random / 4 % (region->span / (size_t)page)) * page;

	fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, random % 3 ? page : 1 << 20);
	if (random % 2)
		atomic_store(&region->control->recv_waiter.raises, random);
}

/* An honest pipe beside it works as before. */
static void assert_honest(bufpipe_t *ends[2])
{
	char buf[16];

	cr_assert_eq(bufpipe_send(ends[1], "honest", 6, 0), 0);
	cr_assert_eq(bufpipe_recv(ends[0], buf, sizeof(buf), 5 * NSEC_PER_SEC), 6);
}

/* Makes one call of each kind with a timeout, and checks what it returns and how long it takes. */
static void call_each(bufpipe_t *victim, bufpipe_t *honest[2], bufpipe_set_t *set)
{
	struct bufpipe_pollfd two[2] = { { .pipe = victim, .events = BUFPIPE_IN },
					 { .pipe = honest[0], .events = BUFPIPE_IN } };
	struct bufpipe_event events[4];
	int64_t begin = time_now();
	char buf[64];
	const void *at;
	ssize_t r;

	r = bufpipe_recv(victim, buf, sizeof(buf), MSEC);
	cr_assert(r == -ETIMEDOUT || r == -EPROTO || r == -EPIPE || r >= 0, "recv: %zd", r);
	r = bufpipe_peek(victim, &at, MSEC);
	cr_assert(r == -ETIMEDOUT || r == -EPROTO || r == -EPIPE || r >= 0, "peek: %zd", r);
	if (r >= 0)
		bufpipe_release(victim);
	r = bufpipe_wait(two, 2, MSEC);
	cr_assert_geq(r, 0, "wait: %zd", r);
	cr_assert_eq(two[1].revents, 0);
	r = bufpipe_set_wait(set, events, 4, MSEC);
	cr_assert_geq(r, 0, "set_wait: %zd", r);
	assert_honest(honest);
	cr_assert_lt(elapsed(begin), SOON);
}

static void receive_beside(flip_step *attack_step, unsigned set_flags)
{
	struct duel d = duel_begin(0, &(struct bufpipe_options){ .spin_ns = BUFPIPE_NO_SPIN });
	int64_t attack = attack_time();
	int64_t began = time_now();
	bufpipe_set_t *set;
	bufpipe_t *honest[2];
	pid_t pid;

	pipe_open(honest, NULL);
	cr_assert_eq(bufpipe_set_create(&set, set_flags), 0);
	cr_assert_eq(bufpipe_set_add(set, d.victim, BUFPIPE_IN, NULL), 0);
	cr_assert_eq(bufpipe_set_add(set, honest[0], BUFPIPE_IN, NULL), 0);
	pid = flipper_start(&d, attack_step);
	while (elapsed(began) < attack)
		call_each(d.victim, honest, set);
	flipper_stop(pid);
	bufpipe_set_destroy(set);
	pipe_close(honest);
	duel_end(&d);
}

Test(hostile_punch, a_sender_punches_its_memory)
{
	receive_beside(punch, 0);
	receive_beside(punch, BUFPIPE_NO_URING);
}

static void send_to_a_puncher(const struct bufpipe_options *options)
{
	struct duel d = duel_begin(1, options);
	int64_t attack = attack_time();
	int64_t began = time_now();
	pid_t pid = flipper_start(&d, punch);
	static char message[300000];

	while (elapsed(began) < attack) {
		struct bufpipe_pollfd p = { .pipe = d.victim, .events = BUFPIPE_OUT };
		int64_t begin = time_now();
		int r = bufpipe_send(d.victim, message, sizeof(message), MSEC);

		cr_assert(r == -ETIMEDOUT || r == -EPROTO, "%d", r);
		r = bufpipe_send(d.victim, message, 100, MSEC);
		cr_assert(r == 0 || r == -ETIMEDOUT || r == -EPROTO, "%d", r);
		cr_assert_geq(bufpipe_wait(&p, 1, MSEC), 0);
		cr_assert_lt(elapsed(begin), SOON);
	}
	flipper_stop(pid);
	duel_end(&d);
}

Test(hostile_punch, a_receiver_punches_its_memory)
{
	send_to_a_puncher(&(struct bufpipe_options){ .spin_ns = BUFPIPE_NO_SPIN });
	send_to_a_puncher(&(struct bufpipe_options){ .flags = BUFPIPE_DUPLEX });
	send_to_a_puncher(&(struct bufpipe_options){ .flags = BUFPIPE_SHARED });
}

/*
 * With BUFPIPE_NO_HANDOVER nobody can punch holes: not through the descriptor, not through the mapping, and
 * not through a new mapping.
 */
Test(hostile_punch, without_hand_over_memory_cannot_be_punched)
{
	struct bufpipe_options o;
	struct identity id = honest_identity(LAYOUT_SENDS);
	struct region region;
	int shared;

	cr_assert_eq(options_check(&o, &(struct bufpipe_options){ .flags = BUFPIPE_NO_HANDOVER }), 0);
	cr_assert_eq(region_create(&region, &shared, &id, "sealed", o.flags), 0);
	cr_assert_lt(fallocate(region.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	cr_assert_eq(errno, EPERM);
	cr_assert_lt(madvise(region.control, 4096, MADV_REMOVE), 0);
	cr_assert_eq(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, region.fd, 0), MAP_FAILED);
	close(shared);
	region_drop(&region);
}

/* A client whose memory could be punched is refused by a listener that does not allow this. */
Test(hostile_punch, a_listener_without_hand_over_takes_no_memory_that_can_be_punched)
{
	struct meeting m = meet(&(struct bufpipe_options){ .flags = BUFPIPE_NO_HANDOVER });
	struct handshake region = handshake_make(REGION);
	struct identity id = honest_identity(LAYOUT_SENDS);
	int fd = forge_region(&id, honest_size(&id), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	bufpipe_t *pipe;

	cr_assert(m.offer.flags & HANDSHAKE_SEALED);
	cr_assert_eq(rogue_send(m.socket, &region, sizeof(region), &fd, 1), (ssize_t)sizeof(region));
	cr_assert_eq(bufpipe_accept(m.listener, &pipe, 0), -EAGAIN);
	honest_visit(m.listener, m.address, NULL);
	close(fd);
	part(&m);
}

#define SLEEPERS 300

struct parked {
	const _Atomic uint32_t *word;
	_Atomic int asleep;
	_Atomic int woken;
};

static void *sleep_on_word(void *arg)
{
	struct parked *parked = arg;

	atomic_fetch_add(&parked->asleep, 1);
	/* The word is 0 until it is rung. */
	sys_futex_wait(parked->word, 0, TIME_FOREVER);
	atomic_fetch_add(&parked->woken, 1);
	return NULL;
}

static void park(struct parked *parked)
{
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (int i = 0; i < SLEEPERS; i++)
		check_eq(pthread_create(&thread, &small, sleep_on_word, parked), 0);
	pause();
}

/*
 * Many threads of the peer sleep on the victim's futex word. One ring wakes no more of them than an honest
 * end may have.
 */
Test(hostile_punch, sleepers_parked_on_a_futex_word)
{
	struct duel d = duel_begin(1, &(struct bufpipe_options){ .spin_ns = BUFPIPE_NO_SPIN });
	struct parked *parked =
		mmap(NULL, sizeof(*parked), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct waiter_state *waiter = &d.rogue->ours.control->recv_waiter;
	pid_t pid;

	parked->word = &d.rogue->theirs.control->send_waiter.events;
	pid = fork();
	if (!pid)
		park(parked);
	while (atomic_load(&parked->asleep) < SLEEPERS)
		sched_yield();
	for (int i = 0; i < 100; i++) /* the last sleepers are on their way into the kernel */
		sched_yield();
	atomic_fetch_add(&waiter->raises, 1);
	atomic_fetch_or(&waiter->flags, WAITER_FUTEX);
	cr_assert_eq(bufpipe_send(d.victim, "x", 1, 0), 0);
	for (int i = 0; i < 100; i++)
		sched_yield();
	cr_assert_leq(atomic_load(&parked->woken), SLEEPERS / 2);
	cr_assert_eq(kill(pid, SIGKILL), 0);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	munmap(parked, sizeof(*parked));
	duel_end(&d);
}

/* The kernel may then refuse to let a thread sleep on the word. The library must not try again in a loop. */
static void sleep_beside_a_puncher(unsigned set_flags)
{
	struct duel d = duel_begin(0, &(struct bufpipe_options){ .spin_ns = BUFPIPE_NO_SPIN });
	int64_t attack = attack_time();
	int64_t began = time_now();
	struct bufpipe_event event;
	struct rusage before;
	struct rusage after;
	bufpipe_set_t *set;
	int calls = 0;
	int64_t cpu = time_of(CLOCK_PROCESS_CPUTIME_ID);
	pid_t pid;

	cr_assert_eq(bufpipe_set_create(&set, set_flags), 0);
	cr_assert_eq(bufpipe_set_add(set, d.victim, BUFPIPE_IN, NULL), 0);
	pid = flipper_start(&d, punch);
	getrusage(RUSAGE_SELF, &before);
	for (; elapsed(began) < attack; calls++)
		cr_assert_geq(bufpipe_set_wait(set, &event, 1, 50 * MSEC), 0);
	getrusage(RUSAGE_SELF, &after);
	/* Each call sleeps once. A few more sleeps are page faults. */
	cr_assert_leq(after.ru_nvcsw - before.ru_nvcsw, 50 * calls + 50);
	cpu = time_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	/* A call takes 0.1 ms of CPU. A call that never slept would take 50 ms. */
	cr_assert_lt(cpu, (2 * calls + 10) * MSEC, "%lld ns of CPU in %d calls", (long long)cpu, calls);
	flipper_stop(pid);
	bufpipe_set_destroy(set);
	duel_end(&d);
}

Test(hostile_punch, a_set_sleeps_beside_a_peer_that_punches)
{
	sleep_beside_a_puncher(0);
	sleep_beside_a_puncher(BUFPIPE_NO_URING);
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define HUGE ((size_t)2 << 20)

/* How often the kernel did what collapse asked for; shared with the attacker. */
static _Atomic int *collapsed;

/* Asks for huge pages in both regions, its own and the victim's, and then splits those in its own. */
static void collapse(const struct duel *d, uint64_t random)
{
	static char *at[2];
	const struct region *regions[2] = { &d->rogue->ours, &d->rogue->theirs };
	uintptr_t space;

	for (int i = 0; i < 2; i++) {
		if (!at[i]) {
			space = (uintptr_t)mmap(NULL, 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
						0);
			at[i] = (char *)((space + HUGE - 1) & ~(HUGE - 1));
			if (mmap(at[i], HUGE, PROT_READ, MAP_SHARED | MAP_FIXED, regions[i]->fd, 0) ==
			    MAP_FAILED)
				_exit(1);
		}
		if (madvise(at[i], HUGE, MADV_COLLAPSE) == 0)
			atomic_fetch_add(collapsed, 1);
	}
	if (random % 4 == 0)
		punch(d, random / 4);
}

/* The victim's calls take a little longer, and stay correct. */
Test(hostile_punch, a_peer_asks_for_huge_pages)
{
	collapsed = mmap(NULL, sizeof(*collapsed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(collapsed, MAP_FAILED);
	receive_beside(collapse, 0);
	/* Before Linux 6.1 a process cannot ask for huge pages in memfds, and later kernels may have none. */
	if (!atomic_load(collapsed))
		cr_skip_test("the kernel gave no huge page");
}
