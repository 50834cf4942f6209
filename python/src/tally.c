/* SPDX-License-Identifier: MIT */
/*
 * A producer takes the lock, which is robust.  It notes that it is about to send an item,
 * sends it, and notes that it has sent it.  If it dies at any instruction, the next
 * producer can find out whether the item was sent: see settle.
 */
#include "tally_page.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The highest byte of a trailer, above the number.  No pickle ends with this byte. */
#define TAG         ((uint64_t)0xa7 << 56)
#define NUMBER_MASK (((uint64_t)1 << 56) - 1)
/* No ring holds so many items.  A number that is further ahead is not that of a trailer. */
#define FAR_AHEAD ((uint64_t)1 << 40)

/* How often a call tries a taken lock, and looks at a full queue, before it sleeps. */
#define LOCK_ROUNDS  64
#define SPACE_ROUNDS 512
/* A call that waits looks this often at the ring itself, which shows what dead processes did not note. */
#define LOOK_EVERY (NSEC_PER_SEC / 20)

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NSEC_PER_SEC + t.tv_nsec;
}

static void pause_briefly(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static int futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t ns)
{
	struct timespec left = { ns / NSEC_PER_SEC, ns % NSEC_PER_SEC };

	return syscall(SYS_futex, word, FUTEX_WAIT, value, &left, NULL, 0) < 0 ? -errno : 0;
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* Keeps the compiler from reordering stores.  This is enough, because a death does not reorder executed stores. */
static void in_this_order(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

static size_t record_of(const struct item *item)
{
	return 8 + ((item->len + 7) & ~(size_t)7);
}

static uint64_t puts_of(const struct page *page)
{
	/* Acquire pairs with the release in unclaim and settle: an item that is counted is in the ring. */
	return atomic_load_explicit(&page->word, memory_order_acquire) / 2;
}

static uint64_t gets_of(const struct page *page)
{
	/* Sequentially consistent, for sleep_for_space: the producer sets 'wanted' before it looks here. */
	return atomic_load_explicit(&page->gets, memory_order_seq_cst);
}

static void wake_producer(struct page *page)
{
	atomic_store_explicit(&page->wanted, 0, memory_order_relaxed);
	atomic_fetch_add_explicit(&page->risen, 1, memory_order_release);
	futex_wake(&page->risen);
}

/* gets only rises, so a consumer that notes its number late does not lower it. */
static void raise_gets(struct page *page, uint64_t number)
{
	uint64_t gets = atomic_load_explicit(&page->gets, memory_order_relaxed);

	while (gets < number) {
		/*
		 * Pairs with sleep_for_space: either the producer finds this number, or we
		 * find its flag.  Otherwise it would sleep although there is space.
		 */
		if (!atomic_compare_exchange_weak_explicit(&page->gets, &gets, number, memory_order_seq_cst,
							   memory_order_relaxed))
			continue;
		if (unlikely(atomic_load_explicit(&page->wanted, memory_order_seq_cst)))
			wake_producer(page);
		break;
	}
}

static bool read_trailer(const struct page *page, const char *message, size_t len, uint64_t *number)
{
	uint64_t trailer;

	if (len < TRAILER)
		return false;
	memcpy(&trailer, message + len - TRAILER, sizeof(trailer));
	*number = trailer & NUMBER_MASK;
	return (trailer & ~NUMBER_MASK) == TAG &&
	       *number <= FAR_AHEAD + atomic_load_explicit(&page->gets, memory_order_relaxed);
}

size_t tally_took(struct tally *tally, const char *message, size_t len)
{
	uint64_t number;

	/* A message without a trailer was sent through the end itself, and not by put. */
	if (unlikely(!read_trailer(tally->page, message, len, &number)))
		return len;
	raise_gets(tally->page, number);
	return len - TRAILER;
}

/*
 * Looks into the ring to see which items were taken, because a consumer may have died
 * between taking an item and noting it.  The count of puts is read before the ring: if
 * the ring is empty afterwards, all counted items were taken.
 */
static void tally_look(struct page *page, bufpipe_t *in)
{
	uint64_t puts = puts_of(page);
	struct bufpipe_pollfd wanted = { in, BUFPIPE_IN, 0 };
	const void *message;
	uint64_t number;
	ssize_t len;

	if (!in || gets_of(page) >= puts)
		return;
	len = bufpipe_peek(in, &message, 0);
	if (len >= 0) {
		bool known = read_trailer(page, message, (size_t)len, &number);

		bufpipe_unpeek(in);
		if (known)
			raise_gets(page, number - 1);
	} else if (len == -EAGAIN && bufpipe_wait(&wanted, 1, 0) == 0) {
		/* The peek alone is not enough: with timeout 0 it also fails while another consumer has the turn. */
		raise_gets(page, puts);
	}
}

static bool has_space(const struct page *page)
{
	return !page->maxsize || (int64_t)(puts_of(page) - gets_of(page)) < (int64_t)page->maxsize;
}

static int lock_try(struct page *page)
{
	int r = pthread_mutex_trylock(&page->lock);

	/* The caller repairs what a dead owner left: see settle. */
	return r == EOWNERDEAD ? -pthread_mutex_consistent(&page->lock) : -r;
}

/* Whether the owner will keep the lock for some time, because it waits itself. */
static bool is_held_up(const struct page *page)
{
	/* Relaxed is enough for a hint, as the try fails in either case. */
	return atomic_load_explicit(&page->blocked, memory_order_relaxed) || !has_space(page);
}

/*
 * Returns 0, -EAGAIN or -ETIMEDOUT; -EALREADY if this was only a try and the lock may soon
 * be free; -EDEADLK if this thread has the lock, because a signal handler puts.
 */
static int lock_take(struct page *page, int64_t timeout_ns)
{
	struct timespec until;
	int64_t deadline;
	int r = lock_try(page);

	for (int i = 0; r == -EBUSY && i < LOCK_ROUNDS; i++) {
		pause_briefly();
		r = lock_try(page);
	}
	if (r == -EBUSY && timeout_ns == 0)
		return is_held_up(page) ? -EAGAIN : -EALREADY;
	if (r != -EBUSY)
		return r;
	deadline = now() + timeout_ns;
	until = (struct timespec){ deadline / NSEC_PER_SEC, deadline % NSEC_PER_SEC };
	r = pthread_mutex_clocklock(&page->lock, CLOCK_MONOTONIC, &until);
	return r == EOWNERDEAD ? -pthread_mutex_consistent(&page->lock) : -r;
}

static void lock_drop(struct page *page)
{
	pthread_mutex_unlock(&page->lock);
}

/* Returns where the next record will begin, or a negative errno if that cannot be known now. */
static int64_t look_place(bufpipe_t *out, int64_t timeout_ns)
{
	void *room;
	int r = bufpipe_reserve(out, &room, 0, timeout_ns);

	if (r < 0)
		return r;
	bufpipe_cancel(out);
	return (int64_t)(((uintptr_t)room - 8) % PLACES);
}

/*
 * If a producer died while it put an item, finds out whether the item was sent: if it
 * was, the next record begins at another place than the item did.  In a full ring this
 * can only be seen when there is room again.  For an item longer than the buffer it
 * cannot be seen, so such an item counts as not sent.  If it was sent after all, it has
 * the same number as the next item, and the count is one too small until both are taken.
 */
static int settle(struct page *page, bufpipe_t *out, int64_t timeout_ns)
{
	uint64_t word = atomic_load_explicit(&page->word, memory_order_relaxed);
	int64_t place;
	bool sent;

	if (likely(!(word & CLAIMED)))
		return 0;
	place = look_place(out, timeout_ns);
	if (place < 0)
		return (int)place;
	sent = page->from != NOWHERE && page->from != (uint64_t)place;
	page->next = (uint64_t)place;
	in_this_order();
	atomic_store_explicit(&page->word, (word & ~CLAIMED) + (sent ? 2 : 0), memory_order_release);
	return 0;
}

/*
 * Notes that an item is about to be sent, whose record begins at 'from', and gives the
 * item its number.  A death after the second store leaves the claim and 'from', by which
 * settle decides.
 */
static void claim(struct page *page, uint64_t from, struct item *item)
{
	uint64_t word = atomic_load_explicit(&page->word, memory_order_relaxed);

	page->from = from;
	in_this_order();
	atomic_store_explicit(&page->word, word | CLAIMED, memory_order_relaxed);
	in_this_order();
	page->next = from == NOWHERE ? NOWHERE : (from + record_of(item)) % PLACES;
	in_this_order();
	item->trailer[1] = TAG | (word / 2 + 1);
	if (item->flat)
		memcpy(item->flat + item->len - TRAILER, &item->trailer[1], TRAILER);
}

/* Ends the claim, and counts the item if it was sent. */
static void unclaim(struct page *page, bool sent)
{
	uint64_t word = atomic_load_explicit(&page->word, memory_order_relaxed);

	in_this_order();
	if (!sent)
		page->next = page->from;
	in_this_order();
	/* Release pairs with the acquire in puts_of. */
	atomic_store_explicit(&page->word, (word & ~CLAIMED) + (sent ? 2 : 0), memory_order_release);
}

/* Sleeps until gets rises.  The order matters: read the futex word, set the flag, look, sleep. */
static int sleep_for_space(struct page *page, int64_t ns)
{
	/* Acquire pairs with the release in wake_producer. */
	uint32_t risen = atomic_load_explicit(&page->risen, memory_order_acquire);
	int r = 0;

	/* Pairs with the load of 'wanted' in raise_gets. */
	atomic_store_explicit(&page->wanted, 1, memory_order_seq_cst);
	if (!has_space(page))
		r = futex_wait(&page->risen, risen, ns < LOOK_EVERY ? ns : LOOK_EVERY);
	atomic_store_explicit(&page->wanted, 0, memory_order_relaxed);
	return r;
}

/* Keeps the lock while it waits: so one producer waits for the consumers, and all others wait for the lock. */
static int await_space(struct page *page, bufpipe_t *in, int64_t timeout_ns)
{
	int64_t deadline = 0;
	int64_t left = timeout_ns;
	int r = 0;

	if (likely(has_space(page)))
		return 0;
	for (int i = 0; timeout_ns && i < SPACE_ROUNDS && !has_space(page); i++)
		pause_briefly();
	if (timeout_ns)
		deadline = now() + timeout_ns;
	while (!has_space(page)) {
		tally_look(page, in);
		if (has_space(page))
			break;
		if (timeout_ns == 0)
			return -EAGAIN;
		if (r == -EINTR || left <= 0)
			return r == -EINTR ? r : -ETIMEDOUT;
		r = sleep_for_space(page, left);
		left = deadline - now();
	}
	return 0;
}

static void set_blocked(struct page *page, uint32_t blocked)
{
	atomic_store_explicit(&page->blocked, blocked, memory_order_relaxed);
}

/* Takes the lock, settles the death of a producer, and waits for space for an item. */
static int enter(struct page *page, bufpipe_t *out, bufpipe_t *in, int64_t timeout_ns)
{
	int r = lock_take(page, timeout_ns);

	if (unlikely(r < 0))
		return r;
	if (unlikely(atomic_load_explicit(&page->blocked, memory_order_relaxed)))
		set_blocked(page, 0); /* an owner died while it was blocked */
	r = settle(page, out, timeout_ns);
	if (r == 0)
		r = await_space(page, in, timeout_ns);
	if (r < 0)
		lock_drop(page);
	return r;
}

static int send_once(bufpipe_t *out, const struct item *item, int64_t timeout_ns)
{
	return item->flat ? bufpipe_send(out, item->flat, item->len, timeout_ns)
			  : bufpipe_sendv(out, item->pieces, item->n, timeout_ns);
}

static int send_item(struct page *page, bufpipe_t *out, struct item *item, int64_t timeout_ns)
{
	int64_t place = (int64_t)page->next;
	int r;

	if (unlikely(page->next == NOWHERE))
		place = look_place(out, 0);
	claim(page, place < 0 ? NOWHERE : (uint64_t)place, item);
	r = send_once(out, item, 0);
	if (unlikely(r == -EAGAIN && timeout_ns)) {
		set_blocked(page, 1);
		r = send_once(out, item, timeout_ns);
		set_blocked(page, 0);
	}
	unclaim(page, r == 0);
	return r;
}

int tally_put(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *item, int64_t timeout_ns)
{
	struct page *page = tally->page;
	int r = enter(page, out, in, timeout_ns);

	if (unlikely(r < 0))
		return r;
	r = send_item(page, out, item, timeout_ns);
	lock_drop(page);
	return r;
}

ssize_t tally_put_many(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *items, size_t n,
		       int64_t timeout_ns)
{
	struct page *page = tally->page;
	int r = enter(page, out, in, timeout_ns);
	size_t sent = 0;

	if (unlikely(r < 0))
		return r;
	r = send_item(page, out, &items[0], timeout_ns);
	while (r == 0 && ++sent < n) {
		r = await_space(page, in, 0);
		if (r == 0)
			r = send_item(page, out, &items[sent], 0);
	}
	lock_drop(page);
	return sent ? (ssize_t)sent : r;
}

int tally_begin(struct tally *tally, bufpipe_t *out, bufpipe_t *in, struct item *item, int64_t timeout_ns)
{
	struct page *page = tally->page;
	int r = enter(page, out, in, timeout_ns);

	if (r < 0)
		return r;
	set_blocked(page, 1);
	claim(page, NOWHERE, item);
	return 0;
}

void tally_end(struct tally *tally, bool sent)
{
	unclaim(tally->page, sent);
	set_blocked(tally->page, 0);
	lock_drop(tally->page);
}

/* Settles the put of a producer that died.  The item of a producer that lives is not counted yet. */
static void settle_if_dead(struct page *page, bufpipe_t *out)
{
	if (likely(!(atomic_load_explicit(&page->word, memory_order_relaxed) & CLAIMED)) || !out ||
	    lock_try(page) < 0)
		return;
	(void)settle(page, out, 0);
	lock_drop(page);
}

/* An item that was taken was also put, even if its producer has not counted it yet. */
static uint64_t put_so_far(const struct page *page)
{
	uint64_t puts = puts_of(page);
	uint64_t gets = gets_of(page);

	return puts > gets ? puts : gets;
}

size_t tally_size(struct tally *tally, bufpipe_t *out, bufpipe_t *in)
{
	struct page *page = tally->page;
	uint64_t puts;
	uint64_t gets;

	settle_if_dead(page, out);
	tally_look(page, in);
	gets = gets_of(page);
	puts = puts_of(page);
	return puts > gets ? puts - gets : 0;
}

size_t tally_unfinished(struct tally *tally, bufpipe_t *out)
{
	struct page *page = tally->page;
	uint64_t done;

	settle_if_dead(page, out);
	/* Sequentially consistent: a join that is about to sleep has set 'joined' before it looks here. */
	done = atomic_load_explicit(&page->done, memory_order_seq_cst);
	return put_so_far(page) > done ? put_so_far(page) - done : 0;
}

bool tally_task_done(struct tally *tally)
{
	struct page *page = tally->page;
	uint64_t done = atomic_load_explicit(&page->done, memory_order_relaxed);

	do {
		if (done >= put_so_far(page))
			return false;
		/* Pairs with tally_join: either the join finds this count, or we find its flag. */
	} while (!atomic_compare_exchange_weak_explicit(&page->done, &done, done + 1, memory_order_seq_cst,
							memory_order_relaxed));
	if (atomic_load_explicit(&page->joined, memory_order_seq_cst) && done + 1 >= put_so_far(page)) {
		atomic_store_explicit(&page->joined, 0, memory_order_relaxed);
		atomic_fetch_add_explicit(&page->finished, 1, memory_order_release);
		futex_wake(&page->finished);
	}
	return true;
}

int tally_join(struct tally *tally, bufpipe_t *out, int64_t timeout_ns)
{
	struct page *page = tally->page;
	int64_t deadline = now() + timeout_ns;
	int64_t left = timeout_ns;
	int r = 0;

	while (tally_unfinished(tally, out)) {
		/* Acquire pairs with the release in tally_task_done. */
		uint32_t finished = atomic_load_explicit(&page->finished, memory_order_acquire);

		if (r == -EINTR || left <= 0)
			return r == -EINTR ? r : -ETIMEDOUT;
		/* Pairs with the load of 'joined' in tally_task_done. */
		atomic_store_explicit(&page->joined, 1, memory_order_seq_cst);
		if (tally_unfinished(tally, out))
			r = futex_wait(&page->finished, finished, left < LOOK_EVERY ? left : LOOK_EVERY);
		left = deadline - now();
	}
	return 0;
}
