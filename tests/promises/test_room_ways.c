/* SPDX-License-Identifier: MIT */
/*
 * Every way of waiting for room, on exclusive and shared ends, of generic and static pipes: it says so when what was
 * refused would fit, and not before.
 */
#include "need_uring.h"
#include "sets.h"

#include <poll.h>

SUITE(room_ways);

enum { BIG = 3000, SMALL = 100, OBJECTS = 4 };

static size_t record(size_t len)
{
	return (len + 7) / 8 * 8 + 8;
}

static const struct bufpipe_options kinds[] = {
	{ .buffer_size = 4096 },
	{ .buffer_size = 4096, .flags = BUFPIPE_SHARED },
	{ .object_size = SMALL, .object_count = OBJECTS },
	{ .object_size = SMALL, .object_count = OBJECTS, .flags = BUFPIPE_SHARED },
};

/* What bufpipe_create(3) says about the size. */
static size_t capacity(const struct bufpipe_options *o)
{
	return o->object_size ? OBJECTS * record(SMALL) : o->buffer_size + 8;
}

static size_t biggest(const struct bufpipe_options *o)
{
	return o->object_size ? SMALL : BIG;
}

static size_t used(const bufpipe_t *pipe)
{
	struct bufpipe_info info;

	check_eq(bufpipe_get_info(pipe, &info), 0);
	return info.used;
}

static int try_to_send(bufpipe_t *pipe, size_t len)
{
	static char message[BIG];
	int r = bufpipe_send(pipe, message, len, 0);

	check(r == 0 || r == -EAGAIN);
	return r;
}

static void take(bufpipe_t *pipe)
{
	char message[BIG];

	check(bufpipe_recv(pipe, message, sizeof(message), PLENTY) >= 0);
}

/* A way of waiting. ready returns whether it reports room within the time. */
struct way {
	bufpipe_t *pipe;
	bufpipe_set_t *set;
	struct io_uring ring;
	bool asked; /* a request is in the ring */
	int fd;
	bool (*ready)(struct way *way, int64_t timeout_ns);
	void (*close)(struct way *way);
};

static void close_nothing(struct way *way)
{
	(void)way;
}

static bool ready_by_wait(struct way *way, int64_t timeout_ns)
{
	struct bufpipe_pollfd one = { .pipe = way->pipe, .events = BUFPIPE_OUT };
	int r = bufpipe_wait(&one, 1, timeout_ns);

	check(r == 0 || r == 1);
	return r == 1;
}

static void open_wait(struct way *way, bufpipe_t *pipe)
{
	*way = (struct way){ .pipe = pipe, .ready = ready_by_wait, .close = close_nothing };
}

static bool ready_by_set(struct way *way, int64_t timeout_ns)
{
	struct bufpipe_event event;
	int r = bufpipe_set_wait(way->set, &event, 1, timeout_ns);

	check(r == 0 || r == 1);
	return r == 1;
}

static void close_set(struct way *way)
{
	check_eq(bufpipe_set_remove(way->set, way->pipe), 0);
	bufpipe_set_destroy(way->set);
}

static void open_set_with(struct way *way, bufpipe_t *pipe, unsigned flags)
{
	*way = (struct way){
		.pipe = pipe, .set = set_open(flags), .ready = ready_by_set, .close = close_set
	};
	check_eq(bufpipe_set_add(way->set, pipe, BUFPIPE_OUT, NULL), 0);
}

static void open_set(struct way *way, bufpipe_t *pipe)
{
	open_set_with(way, pipe, 0);
}

static void open_set_of_epoll(struct way *way, bufpipe_t *pipe)
{
	open_set_with(way, pipe, BUFPIPE_NO_URING);
}

static bool ready_by_fd(struct way *way, int64_t timeout_ns)
{
	struct pollfd p = { .fd = way->fd, .events = POLLIN };

	return poll(&p, 1, (int)((timeout_ns + MSEC - 1) / MSEC)) == 1;
}

static void open_fd(struct way *way, bufpipe_t *pipe)
{
	*way = (struct way){
		.pipe = pipe, .fd = bufpipe_room_fd(pipe), .ready = ready_by_fd, .close = close_nothing
	};
	check(way->fd >= 0);
}

static bool ready_by_uring(struct way *way, int64_t timeout_ns)
{
	struct __kernel_timespec limit = { timeout_ns / SEC, timeout_ns % SEC };
	struct io_uring_cqe *cqe;

	if (!way->asked) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&way->ring);

		check_eq(bufpipe_prep_wait_room(sqe, way->pipe), 0);
		check_eq(io_uring_submit(&way->ring), 1);
		way->asked = true;
	}
	if (io_uring_wait_cqe_timeout(&way->ring, &cqe, &limit) < 0)
		return false;
	io_uring_cqe_seen(&way->ring, cqe);
	way->asked = false;
	return true;
}

static void close_uring(struct way *way)
{
	io_uring_queue_exit(&way->ring);
}

static void open_uring(struct way *way, bufpipe_t *pipe)
{
	*way = (struct way){ .pipe = pipe, .ready = ready_by_uring, .close = close_uring };
	check_eq(io_uring_queue_init(16, &way->ring, 0), 0);
}

typedef void open_way(struct way *way, bufpipe_t *pipe);

/*
 * Takes message by message out of a full ring. After each, the way must say whether there is room: for what
 * was refused, or, if nothing was refused, for a quarter of the ring.
 */
static void says_so_when_it_fits(open_way *open, const struct bufpipe_options *o, bool refused)
{
	size_t most = capacity(o);
	size_t needed = refused ? record(biggest(o)) : most / 4;
	struct way way;
	bufpipe_t *ends[2];
	int taken = 0;
	bool fits;

	pipe_open(ends, o);
	while (used(ends[OUT]) + record(SMALL) <= most)
		check_eq(try_to_send(ends[OUT], SMALL), 0);
	if (refused)
		check_eq(try_to_send(ends[OUT], biggest(o)), -EAGAIN);
	open(&way, ends[OUT]);
	check(!way.ready(&way, MSEC));
	do {
		take(ends[IN]);
		taken++;
		fits = used(ends[OUT]) + needed <= most;
		check_eq(way.ready(&way, fits ? PLENTY : MSEC), fits);
	} while (!fits);
	check(o->object_size ? taken == 1 : taken > 5);
	if (refused)
		check_eq(try_to_send(ends[OUT], biggest(o)), 0);
	way.close(&way);
	pipe_close(ends);
}

static void for_every_kind(open_way *open)
{
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		says_so_when_it_fits(open, &kinds[i], true);
		says_so_when_it_fits(open, &kinds[i], false);
	}
}

Test(room_ways, bufpipe_wait_says_so_when_it_fits)
{
	for_every_kind(open_wait);
}

Test(room_ways, a_set_says_so_when_it_fits)
{
	for_every_kind(open_set);
}

Test(room_ways, a_set_without_io_uring_says_so_when_it_fits)
{
	for_every_kind(open_set_of_epoll);
}

Test(room_ways, the_descriptor_says_so_when_it_fits)
{
	for_every_kind(open_fd);
}

Test(room_ways, a_request_says_so_when_it_fits)
{
	need_uring();
	for_every_kind(open_uring);
}

/* The same again and again on one end, also after its holders have slept in other ways. */
Test(room_ways, a_shared_end_says_so_each_time_whoever_waited_before)
{
	static open_way *const ways[] = {
		open_fd, open_wait, open_set_of_epoll, open_fd, open_set, open_wait
	};
	bufpipe_t *ends[2];

	pipe_open(ends, &kinds[1]);
	for (unsigned i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		struct way way;
		bool fits;

		while (try_to_send(ends[OUT], SMALL) == 0)
			;
		check_eq(try_to_send(ends[OUT], BIG), -EAGAIN);
		/* A sender that sleeps in its call, and gives up. */
		check_eq(bufpipe_send(ends[OUT], kinds, SMALL, MSEC), -ETIMEDOUT);
		check_eq(try_to_send(ends[OUT], BIG), -EAGAIN);
		ways[i](&way, ends[OUT]);
		way.ready(&way, MSEC);
		do {
			take(ends[IN]);
			fits = used(ends[OUT]) + record(BIG) <= capacity(&kinds[1]);
			/* A wake-up that was under way for another wait may still come, and is followed by none. */
			if (!fits && way.ready(&way, MSEC))
				check_eq(try_to_send(ends[OUT], BIG), -EAGAIN);
		} while (!fits);
		check(way.ready(&way, PLENTY));
		check_eq(try_to_send(ends[OUT], BIG), 0);
		way.close(&way);
	}
	pipe_close(ends);
}

/* Two processes hold the end. This one waits for a big message, and the other one for a small one. */
struct scene {
	bufpipe_t *ends[2];
	open_way *open;
	int sockets[2];
};

static void tell(int socket)
{
	check_eq(write(socket, "", 1), 1);
}

static void be_told(int socket)
{
	char byte;

	check_eq(read(socket, &byte, 1), 1);
}

static void wait_for_a_small_one(void *arg)
{
	struct scene *scene = arg;
	struct way way;

	scene->open(&way, scene->ends[OUT]);
	be_told(scene->sockets[1]);
	check_eq(try_to_send(scene->ends[OUT], SMALL), -EAGAIN);
	check(!way.ready(&way, 0));
	tell(scene->sockets[1]);
	check(way.ready(&way, PLENTY));
	check_eq(try_to_send(scene->ends[OUT], SMALL), 0);
	tell(scene->sockets[1]);
	way.close(&way);
}

static void the_small_one_comes_first(open_way *open, bool small_waits_first)
{
	struct scene scene = { .open = open };
	struct child child;
	struct way way;

	pipe_open(scene.ends, &kinds[1]);
	sockets_open(scene.sockets, SOCK_STREAM);
	child = child_start(wait_for_a_small_one, &scene);
	while (try_to_send(scene.ends[OUT], SMALL) == 0)
		;
	open(&way, scene.ends[OUT]);
	if (small_waits_first) {
		tell(scene.sockets[0]);
		be_told(scene.sockets[0]);
	}
	check_eq(try_to_send(scene.ends[OUT], BIG), -EAGAIN);
	check(!way.ready(&way, 0));
	if (!small_waits_first) {
		tell(scene.sockets[0]);
		be_told(scene.sockets[0]);
	}
	take(scene.ends[IN]);
	be_told(scene.sockets[0]);
	/* The same room may have woken this process as well. It then tries, and waits again. */
	if (way.ready(&way, 0)) {
		check_eq(try_to_send(scene.ends[OUT], BIG), -EAGAIN);
		way.ready(&way, 0);
	}
	while (used(scene.ends[OUT]) + record(BIG) > capacity(&kinds[1]))
		take(scene.ends[IN]);
	check(way.ready(&way, PLENTY));
	check_eq(try_to_send(scene.ends[OUT], BIG), 0);
	way.close(&way);
	child_join(&child);
	sockets_close(scene.sockets);
	pipe_close(scene.ends);
}

Test(room_ways, the_least_of_several_wishes_is_fulfilled_first_by_descriptors)
{
	the_small_one_comes_first(open_fd, false);
	the_small_one_comes_first(open_fd, true);
}

Test(room_ways, the_least_of_several_wishes_is_fulfilled_first_by_requests)
{
	need_uring();
	the_small_one_comes_first(open_uring, false);
	the_small_one_comes_first(open_uring, true);
}

/* Four processes send messages of all sizes through one end, and each waits for room in its own way. */
enum { CROWD = 4, EACH = 1500 };

struct crowd {
	bufpipe_t *ends[2];
	open_way *open;
	unsigned seed;
};

static void send_all(void *arg)
{
	struct crowd *crowd = arg;
	struct way way;

	bufpipe_close(crowd->ends[IN]);
	crowd->open(&way, crowd->ends[OUT]);
	for (unsigned i = 0; i < EACH; i++) {
		size_t len = 1 + (crowd->seed + i * 7919u) % BIG;

		while (try_to_send(crowd->ends[OUT], len) < 0)
			check(way.ready(&way, PLENTY));
	}
	way.close(&way);
	bufpipe_close(crowd->ends[OUT]);
}

Test(room_ways, no_wake_up_is_lost_among_many_wishes)
{
	struct io_uring_sqe sqe;
	struct crowd crowd = { .open = open_fd };
	struct child children[CROWD];
	char message[BIG];
	int received = 0;
	ssize_t n;

	pipe_open(crowd.ends, &kinds[1]);
	for (int i = 0; i < CROWD; i++) {
		static open_way *const ways[CROWD] = { open_fd, open_set_of_epoll, open_fd, open_uring };

		/* Sets and bufpipe_wait look again from time to time. The other ways depend on each wake-up. */
		crowd.open = ways[i];
		if (crowd.open == open_uring && bufpipe_prep_wait_room(&sqe, crowd.ends[OUT]) == -ENOSYS)
			crowd.open = open_wait;
		crowd.seed = (unsigned)i * 1000;
		children[i] = child_start(send_all, &crowd);
	}
	bufpipe_close(crowd.ends[OUT]);
	while ((n = bufpipe_recv(crowd.ends[IN], message, sizeof(message), PLENTY)) >= 0)
		received++;
	check_eq(n, -EPIPE);
	check_eq(received, CROWD * EACH);
	for (int i = 0; i < CROWD; i++)
		child_join(&children[i]);
	bufpipe_close(crowd.ends[IN]);
}
