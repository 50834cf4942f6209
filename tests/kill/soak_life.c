/* SPDX-License-Identifier: MIT */
#include "kill/soak_life.h"

#include "support.h"

#include <stdarg.h>

static struct soak *soak;

uint32_t soak_random(unsigned *state, uint32_t n)
{
	return (uint32_t)rand_r(state) % n;
}

__attribute__((format(printf, 1, 2))) static _Noreturn void fail(const char *format, ...)
{
	va_list args;
	int none = 0;

	if (atomic_compare_exchange_strong(&soak->failed, &none, 1)) {
		va_start(args, format);
		vsnprintf(soak->text, sizeof(soak->text), format, args);
		va_end(args);
		atomic_store(&soak->failed, 2);
	}
	_exit(1);
}

static uint32_t check_of(const struct soak_message *m)
{
	return (m->number * 2654435761u) ^ (m->len * 97u) ^ 0x5aa5u;
}

bool soak_is_head(const struct soak_message *m)
{
	return m->check == check_of(m) && m->number < SOAK_MESSAGES && m->len <= SOAK_LONGEST;
}

static char byte_at(uint32_t number, size_t i)
{
	return (char)(i * 13 + number * 31);
}

/* How long to wait before a look, in case a dead holder did not ring. */
static int64_t patience_of(enum waiter_kind kind)
{
	return waiter_looks_again(kind) ? -1 : SOAK_TIMER;
}

static ssize_t transfer(struct soak_flow *f, struct soak_place *place, struct waiter *w, void *buf,
			size_t len)
{
	ssize_t r;

	atomic_store(&place->doing, SOAK_WAITS);
	do
		r = waiter_transfer(w, buf, len, patience_of(w->kind));
	while (r == -ETIMEDOUT);
	atomic_store(&place->doing, SOAK_GOES_ON);
	atomic_fetch_add(&f->moved, 1);
	return r;
}

/* False if nobody is there any more. */
static bool send_next(struct soak_flow *f, struct soak_place *place, struct waiter *w, unsigned *state,
		      uint32_t *number)
{
	struct soak_message m = { .number = atomic_fetch_add(&f->next, 1) };
	char buf[SOAK_LONGEST];
	ssize_t r;

	if (m.number >= SOAK_MESSAGES) {
		atomic_store(&soak->stop, 1);
		return atomic_load(&soak->fill) == 0;
	}
	m.len = (uint32_t)(sizeof(m) +
			   soak_random(state, soak_random(state, 4) ? 40 : SOAK_LONGEST - sizeof(m)));
	m.check = check_of(&m);
	memcpy(buf, &m, sizeof(m));
	for (size_t i = sizeof(m); i < m.len; i++)
		buf[i] = byte_at(m.number, i);
	r = transfer(f, place, w, buf, m.len);
	if (r == -EPIPE)
		return false;
	if (r < 0)
		fail("%s: send: %zd", waiter_names[w->kind], r);
	atomic_fetch_or(&f->state[m.number], SOAK_SENT);
	atomic_fetch_add(&f->sent, 1);
	*number = m.number;
	return true;
}

static void await_received(struct soak_flow *f, uint32_t number)
{
	int64_t nap = 20 * USEC;

	while (!(atomic_load(&f->state[number]) & (SOAK_SEEN | SOAK_TAKEN)) && !atomic_load(&soak->stop)) {
		sleep_ns(nap);
		nap += nap < MSEC ? nap / 2 : 0;
	}
}

/* Pauses for as long as a spin or a short sleep takes, or for longer than a short sleep. */
static void rest(unsigned *state)
{
	switch (soak_random(state, 16)) {
	case 0:
		sleep_ns(110 * MSEC + soak_random(state, 60) * MSEC);
		break;
	case 1:
	case 2:
		sleep_ns(soak_random(state, 5000) * USEC);
		break;
	case 3:
	case 4:
	case 5:
		sleep_ns(soak_random(state, 200) * USEC);
		break;
	default:
		break;
	}
}

static void send_for_life(struct soak_flow *f, struct soak_place *place, struct waiter *w, unsigned *state)
{
	uint32_t number = 0;
	bool alive = true;

	while (alive && (atomic_load(&soak->fill) || !atomic_load(&soak->stop))) {
		uint32_t burst = 1 + soak_random(state, soak_random(state, 4) ? 3 : 40);

		while (alive && burst--)
			alive = send_next(f, place, w, state, &number);
		if (alive && !atomic_load(&soak->fill)) {
			await_received(f, number);
			rest(state);
		}
	}
}

static void inspect(struct soak_flow *f, const struct waiter *w, char *hand, ssize_t n)
{
	struct soak_message m;

	memcpy(&m, hand, sizeof(m));
	if (n < (ssize_t)sizeof(m) || !soak_is_head(&m) || m.len != (size_t)n)
		fail("%s: a message of %zd bytes is torn", waiter_names[w->kind], n);
	for (size_t i = sizeof(m); i < m.len; i++) {
		if (hand[i] != byte_at(m.number, i))
			fail("%s: message %u is torn at %zu", waiter_names[w->kind], m.number, i);
	}
	if (atomic_fetch_or(&f->state[m.number], SOAK_SEEN) & SOAK_SEEN)
		fail("%s: message %u came twice", waiter_names[w->kind], m.number);
	memset(hand, 0, sizeof(m));
	atomic_fetch_add(&f->received, 1);
}

/* Keeps the next message from the others for a moment. Then it puts the message back or takes it. */
static void peek(struct soak_flow *f, struct soak_place *place, const struct waiter *w, unsigned *state)
{
	const void *at;
	ssize_t n = bufpipe_peek(w->end, &at, 0);

	if (n < 0)
		return;
	sleep_ns(soak_random(state, 300) * USEC);
	if (soak_random(state, 2)) {
		if (bufpipe_unpeek(w->end) < 0)
			fail("unpeek");
		return;
	}
	memcpy(place->hand, at, (size_t)n);
	if (bufpipe_release(w->end) < 0)
		fail("release");
	inspect(f, w, place->hand, n);
}

static void receive_for_life(struct soak_flow *f, struct soak_place *place, struct waiter *w, unsigned *state)
{
	for (;;) {
		ssize_t n = transfer(f, place, w, place->hand, sizeof(place->hand));

		if (n == -EPIPE)
			return;
		if (n < 0)
			fail("%s: recv: %zd", waiter_names[w->kind], n);
		inspect(f, w, place->hand, n);
		if (soak_random(state, 8) == 0)
			peek(f, place, w, state);
		if (soak_random(state, 16) == 0)
			sleep_ns(soak_random(state, 1000) * USEC);
	}
}

/* Where io_uring is forbidden, there is no request. */
static void open_waiter(struct waiter *w, struct soak_place *place, bufpipe_t *end, bool sends,
			unsigned *state)
{
	enum waiter_kind kind = soak_random(state, WAITER_KINDS);
	int r = waiter_open(w, kind, end, sends);

	if (r == -ENOSYS)
		r = waiter_open(w, BLOCKED, end, sends);
	if (r < 0)
		fail("%s: %d", waiter_names[kind], r);
	atomic_store(&place->kind, w->kind);
}

_Noreturn void soak_live(struct soak *shared, int flow, int n, bufpipe_t *end, bool sends, unsigned state)
{
	struct soak_flow *f = &shared->flows[flow];
	struct soak_place *place = &f->places[n];
	struct waiter w;

	soak = shared;
	open_waiter(&w, place, end, sends, &state);
	if (sends)
		send_for_life(f, place, &w, &state);
	else
		receive_for_life(f, place, &w, &state);
	_exit(0);
}
