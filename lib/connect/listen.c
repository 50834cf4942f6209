/* SPDX-License-Identifier: MIT */
/*
 * The calls of the listening side.  bufpipe_accept never waits for one particular
 * connector: the connectors whose handshake is under way are in one epoll, together
 * with the listening socket.  It first serves these connectors and then takes new
 * connections, so a finished handshake is returned before more connectors come in.
 */
#include "base/fd.h"
#include "base/packet.h"
#include "base/probe.h"
#include "base/thread.h"
#include "connect/admit.h"
#include "connect/agree.h"
#include "connect/pending.h"
#include "end/options.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

/* A try ends after this time, but takes at least a few steps even on a loaded machine. */
#define TRY_TIME  (NSEC_PER_SEC / 500)
#define TRY_STEPS 8
/* A try takes at most this many steps, because strangers may connect without end. */
#define TRY_STEPS_MAX (4 * PENDING_MAX)

static int watch(const struct bufpipe_listener *l, int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };

	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* If it fails, the caller closes what was opened. */
static int open_descriptors(struct bufpipe_listener *l)
{
	int r;

	l->epoll = l->timer = -1;
	l->epoll = fd_own(epoll_create1(EPOLL_CLOEXEC));
	if (l->epoll < 0)
		return l->epoll;
	l->timer = fd_own(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
	if (l->timer < 0) {
		/*
		 * Without a timer, only an event loop loses: nothing wakes it when a connector's
		 * time is over.
		 */
		r = l->timer;
		l->timer = -1;
		return r == -EMFILE || r == -ENFILE ? r : 0;
	}
	return watch(l, l->timer, &l->timer);
}

static void close_descriptors(const struct bufpipe_listener *l)
{
	if (l->timer >= 0)
		sys_close(l->timer);
	if (l->epoll >= 0)
		sys_close(l->epoll);
}

static int start(struct bufpipe_listener *l, const char *address, const struct sleeper *sleeper)
{
	int r = open_descriptors(l);

	if (r == 0)
		r = address_listen(&l->listening, address, l->options.mode, sleeper);
	if (r < 0)
		return r;
	packet_forbid_rights(l->listening.fd);
	r = watch(l, l->listening.fd, NULL);
	if (r < 0)
		address_give_up(&l->listening);
	return r;
}

int bufpipe_listen(bufpipe_listener_t **listener, const char *address, const struct bufpipe_options *options)
{
	struct bufpipe_listener *l;
	struct bufpipe_options o;
	struct sleeper caller;
	struct sleeper s;
	int r = options_check(&o, options);

	if (r < 0 || !listener || !address || o.flags & BUFPIPE_WAIT_FOR_LISTENER)
		return -EINVAL;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	for (int i = 0; i < PENDING_MAX; i++)
		l->pending[i].socket = -1;
	l->owner = l->process = thread_process();
	l->options = o;
	l->options.name = strcpy(l->name, o.name);
	l->size_limit = agree_size_limit(&o, options && (options->buffer_size || options->object_count));
	l->memory_limit = agree_memory_limit(&o, l->size_limit);
	l->grace = GRACE;
	/* Not cancellable: there would be much to undo, and it takes little time. */
	caller = sleeper_begin(TIME_FOREVER, o.flags & BUFPIPE_INTERRUPTIBLE);
	s = caller;
	s.cancel_state = PTHREAD_CANCEL_DISABLE;
	r = start(l, address, &s);
	if (r < 0) {
		close_descriptors(l);
		free(l);
	} else {
		*listener = l;
	}
	sleeper_end(&caller);
	return r;
}

/* For a child of fork: closes its copies of the pending connections.  They stay open in the parent. */
static void forget_pending(struct bufpipe_listener *l)
{
	for (int i = 0; i < PENDING_MAX; i++) {
		struct pending *p = &l->pending[i];

		if (p->socket < 0)
			continue;
		packet_leave(p->socket);
		if (p->offered)
			region_drop(&p->ours);
		*p = (struct pending){ .socket = -1 };
	}
	unread_forget(&l->unread);
}

/*
 * Called before each call.  A child of fork that uses the listener gets an epoll and
 * a timer of its own, and forgets the pending connectors, which are served by its
 * parent.  The epoll and timer that it inherited are the same objects as its
 * parent's, so each process would act on the connectors of the other.
 */
static int make_ours(struct bufpipe_listener *l)
{
	struct bufpipe_listener inherited = { .epoll = -1 };
	int r;

	if (likely(l->process == thread_process()))
		return 0;
	inherited.epoll = l->epoll;
	inherited.timer = l->timer;
	r = open_descriptors(l);
	if (r == 0)
		r = watch(l, l->listening.fd, NULL);
	if (r < 0) {
		close_descriptors(l);
		l->epoll = inherited.epoll;
		l->timer = inherited.timer;
		return r;
	}
	close_descriptors(&inherited);
	forget_pending(l);
	l->process = thread_process();
	l->paused = l->told = l->armed = false;
	return 0;
}

int bufpipe_listener_fd(bufpipe_listener_t *l)
{
	int r = l ? make_ours(l) : -EINVAL;

	return r < 0 ? r : l->epoll;
}

int bufpipe_listener_set_policy(bufpipe_listener_t *l, bufpipe_policy_t *policy, void *data)
{
	if (!l)
		return -EINVAL;
	l->policy = policy;
	l->policy_data = data;
	return 0;
}

void bufpipe_listener_close(bufpipe_listener_t *l)
{
	uint32_t process = thread_process();
	struct sleeper s;

	if (!l)
		return;
	s = sleeper_begin(TIME_FOREVER, false);
	if (l->process != process)
		forget_pending(l);
	for (int i = 0; i < PENDING_MAX; i++)
		pending_drop(l, &l->pending[i]);
	unread_forget(&l->unread);
	if (l->owner == process)
		address_unlisten(&l->listening);
	else
		address_leave(&l->listening);
	close_descriptors(l);
	free(l);
	sleeper_end(&s);
}

/* One step: 1 if a pipe is complete, 0 to go on, -EAGAIN if there is nothing to do now, or another error. */
static int serve(struct bufpipe_listener *l, bufpipe_t **pipe)
{
	struct epoll_event events[PENDING_MAX + 2];
	bool knocked = false;
	int r;
	int n;

	pending_retry(l);
	r = pending_expire(l, pipe);
	if (r)
		return r;
	n = epoll_wait(l->epoll, events, PENDING_MAX + 2, 0);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	for (int i = 0; i < n; i++) {
		/* Only one connector a step: serving it may drop another one whose event is in this array. */
		if (!events[i].data.ptr && events[i].events & EPOLLHUP)
			return -ESHUTDOWN;
		else if (!events[i].data.ptr)
			knocked = true;
		else if (events[i].data.ptr != &l->timer)
			return pending_advance(l, events[i].data.ptr, events[i].events & EPOLLHUP, pipe);
	}
	return knocked ? admit_next(l, pipe) : -EAGAIN;
}

static int accept_until(struct bufpipe_listener *l, bufpipe_t **pipe, const struct sleeper *s)
{
	int64_t begin = time_now();

	for (int steps = 0;; steps++) {
		int r = serve(l, pipe);
		int64_t now = time_now();

		if (r == 1)
			return 0;
		if (r < 0 && r != -EAGAIN)
			return r;
		if (s->deadline == TIME_TRY) {
			if (r < 0 || steps == TRY_STEPS_MAX ||
			    (steps >= TRY_STEPS && now - begin >= TRY_TIME))
				return -EAGAIN;
			continue;
		}
		if (now >= s->deadline)
			return -ETIMEDOUT;
		if (r == 0)
			continue;
		if (pending_answers_soon(l, now) && sleep_spared(s, l->epoll))
			continue;
		r = sleep_until(s, l->epoll, pending_next(l), -1);
		if (r < 0 && r != -ETIMEDOUT)
			return r;
	}
}

/* Makes the listener's descriptor readable at a time, for what has to be done then between two calls. */
static void set_timer(struct bufpipe_listener *l, int64_t at)
{
	struct itimerspec when = { .it_value = time_spec(at == TIME_FOREVER ? 0 : at) };

	if (l->timer < 0 || (at == TIME_FOREVER && !l->armed))
		return;
	/* 0 would stop the timer. */
	if (at <= 0)
		when.it_value.tv_nsec = 1;
	l->armed = at != TIME_FOREVER;
	if (timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &when, NULL) == 0)
		return;
	/*
	 * A sandbox refuses it from now on.  Nobody could silence it any more, and accept would
	 * spin.  Taken out of the epoll first, because a child of fork may hold it as well.
	 */
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, l->timer, NULL);
	close(l->timer);
	l->timer = -1;
}

static void rearm(void *listener)
{
	set_timer(listener, pending_next(listener));
}

/* The timer of bufpipe_listener_fd rests meanwhile.  It goes on also when the thread is cancelled. */
static int accept_without_timer(struct bufpipe_listener *l, bufpipe_t **pipe, const struct sleeper *s)
{
	int r;

	set_timer(l, TIME_FOREVER);
	pthread_cleanup_push(rearm, l);
	r = accept_until(l, pipe, s);
	pthread_cleanup_pop(1);
	return r;
}

int bufpipe_accept(bufpipe_listener_t *l, bufpipe_t **pipe, int64_t timeout_ns)
{
	int64_t deadline = time_deadline(timeout_ns);
	bufpipe_t *made = NULL;
	struct sleeper s;
	int r;

	if (!l || !pipe || !timeout_valid(timeout_ns))
		return -EINVAL;
	s = sleeper_begin(deadline, l->options.flags & BUFPIPE_INTERRUPTIBLE);
	s.at_once = l->options.spin_ns == BUFPIPE_NO_SPIN;
	r = make_ours(l);
	if (r == 0)
		r = accept_without_timer(l, &made, &s);
	if (r == 0) {
		*pipe = made;
		PROBE(accept, l->listening.fd, made->socket);
	}
	sleeper_end(&s);
	return r;
}
