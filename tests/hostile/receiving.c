/* SPDX-License-Identifier: MIT */
#include "hostile/receiving.h"

static const char *const receiving_names[] = { "recv", "next", "peek", "recv_many" };

ssize_t receive(bufpipe_t *p, enum receiving how, int64_t timeout_ns)
{
	char *bufs[2] = { malloc(CAP), malloc(CAP) };
	struct iovec two[2] = { { bufs[0], CAP }, { bufs[1], CAP } };
	volatile char sum = 0;
	const void *at;
	ssize_t r = -1;

	switch (how) {
	case RECV:
		r = bufpipe_recv(p, bufs[0], CAP, timeout_ns);
		break;
	case NEXT:
		r = bufpipe_next(p, timeout_ns);
		break;
	case PEEK:
		r = bufpipe_peek(p, &at, timeout_ns);
		for (ssize_t i = 0; i < r; i++)
			sum += ((const char *)at)[i];
		cr_assert_eq(bufpipe_release(p), r < 0 ? -EINVAL : 0);
		break;
	default:
		r = bufpipe_recv_many(p, two, 2, timeout_ns);
		cr_assert(r <= 2 && two[0].iov_len <= CAP && two[1].iov_len <= CAP);
		break;
	}
	(void)sum;
	free(bufs[0]);
	free(bufs[1]);
	return r;
}

/* Whether a receive from a lying sender may return this: no error that blames the receiver or the machine. */
static bool documented(ssize_t r)
{
	return r >= 0 || r == -EPROTO || r == -EPIPE || r == -EAGAIN || r == -ETIMEDOUT || r == -EMSGSIZE;
}

void assert_soon(const struct duel *d, enum receiving how, int64_t timeout_ns, ssize_t wanted)
{
	int64_t begin = time_now();
	ssize_t r = receive(d->victim, how, timeout_ns);

	cr_assert_lt(elapsed(begin), SOON, "%s did not return in time", receiving_names[how]);
	if (wanted)
		cr_assert_eq(r, wanted, "%s: %zd, not %zd", receiving_names[how], r, wanted);
	cr_assert(documented(r), "%s: %zd", receiving_names[how], r);
}

void assert_recovers(const struct duel *d, const char *text, size_t len)
{
	char buf[64] = "";

	memcpy(rogue_header(d, victim_head(d) + 8), text, len);
	atomic_store(rogue_header(d, victim_head(d) + record_size(len)), 0);
	rogue_put(d, RECORD_WHOLE | len);
	cr_assert_eq(bufpipe_recv(d->victim, buf, sizeof(buf), 0), (ssize_t)len);
	cr_assert_eq(memcmp(buf, text, len), 0);
}
