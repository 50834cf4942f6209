/* SPDX-License-Identifier: MIT */
#include "poll/uring.h"

#include "base/sys.h"
#include "bufpipe_uring.h"
#include "poll/readiness.h"

#include <poll.h>
#include <stdio.h>
#include <sys/utsname.h>

/* Whether the kernel has FUTEX_WAIT in io_uring.  LIKELY: no ring was asked yet. */
enum { UNKNOWN, LIKELY, YES, NO };

static _Atomic int known;

static int ask(int ring)
{
	enum { OPS = 64 };
	_Alignas(struct io_uring_probe) char
		space[sizeof(struct io_uring_probe) + OPS * sizeof(struct io_uring_probe_op)];
	struct io_uring_probe *probe = (struct io_uring_probe *)space;

	memset(space, 0, sizeof(space));
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_PROBE, probe, OPS) < 0 ||
	    probe->last_op < URING_OP_FUTEX_WAIT)
		return NO;
	return probe->ops[URING_OP_FUTEX_WAIT].flags & IO_URING_OP_SUPPORTED ? YES : NO;
}

/*
 * Looks at the version, not at a probe of a ring made for this purpose: the kernel
 * takes a ring down later, and that interrupts the next sleep of this thread like a
 * signal.
 */
static bool kernel_is_new_enough(void)
{
	struct utsname system;
	unsigned major, minor;

	if (uname(&system) < 0 || sscanf(system.release, "%u.%u", &major, &minor) != 2)
		return false;
	return major > 6 || (major == 6 && minor >= 7);
}

/* Asks for a ring without entries: EINVAL if rings are allowed, another error if they are forbidden. */
static bool rings_are_allowed(void)
{
	struct io_uring_params params = { 0 };

	return syscall(SYS_io_uring_setup, 0, &params) < 0 && errno == EINVAL;
}

bool uring_has_futex(int ring)
{
	int state = atomic_load_explicit(&known, memory_order_relaxed);

	if (state == UNKNOWN)
		state = kernel_is_new_enough() && rings_are_allowed() ? LIKELY : NO;
	if (state == LIKELY && ring >= 0)
		state = ask(ring);
	atomic_store_explicit(&known, state, memory_order_relaxed);
	return state != NO;
}

/* Fills in a no-op, which completes at once. */
static void prep_nop(struct io_uring_sqe *sqe)
{
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_NOP;
}

static int prep(struct io_uring_sqe *sqe, bufpipe_t *p, unsigned event)
{
	struct wait *wait;
	uint32_t token;
	bool fenced;
	int r = sqe && p ? readiness_check(p, event) : -EINVAL;

	if (r < 0)
		return r;
	if (!uring_has_futex(-1))
		return -ENOSYS;
	wait = event == BUFPIPE_IN ? &p->in.wait : &p->out.wait;
	token = wait_events(wait);
	fenced = readiness_raise(p, event, WAITER_MANY);
	/*
	 * Complete at once if something is there, if the other side is gone, or if publishers
	 * do not know yet that they must fence: then the program looks, and comes again.
	 */
	if (!wait_order(wait, fenced) || readiness_look(p, event) || wait_glance(wait) < 0) {
		readiness_lower(p, event, WAITER_MANY);
		prep_nop(sqe);
	} else {
		uring_prep_futex_wait(sqe, &wait->theirs->events, token);
	}
	return 0;
}

int bufpipe_prep_wait(struct io_uring_sqe *sqe, bufpipe_t *p)
{
	return prep(sqe, p, BUFPIPE_IN);
}

int bufpipe_prep_wait_room(struct io_uring_sqe *sqe, bufpipe_t *p)
{
	return prep(sqe, p, BUFPIPE_OUT);
}

int bufpipe_prep_wait_hup(struct io_uring_sqe *sqe, bufpipe_t *p)
{
	if (!sqe || !p)
		return -EINVAL;
	if (!uring_has_futex(-1))
		return -ENOSYS;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_POLL_ADD;
	sqe->fd = p->socket;
	sqe->poll32_events = POLLRDHUP;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	sqe->poll32_events = sqe->poll32_events << 16;
#endif
	return 0;
}
