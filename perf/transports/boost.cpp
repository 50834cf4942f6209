/* SPDX-License-Identifier: MIT */
/* The message queue of Boost.Interprocess, in memory that both processes inherit. */
extern "C" {
#include "../transport.h"
extern const struct transport transport_boost;
}

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/version.hpp>
#include <cerrno>
#include <memory>
#include <new>
#include <string>
#include <unistd.h>

namespace
{

namespace ipc = boost::interprocess;

struct queues {
	std::unique_ptr<ipc::message_queue> there, back;
	ipc::message_queue *in, *out;
};

/* The queue has its name only until it is open, because both processes inherit the mapping. */
std::unique_ptr<ipc::message_queue> make(const struct shape *shape)
{
	std::string name = "bufpipe-bench." + std::to_string(getpid());
	size_t count = shape->ring / shape->len;

	ipc::message_queue::remove(name.c_str());
	std::unique_ptr<ipc::message_queue> queue(
		new ipc::message_queue(ipc::create_only, name.c_str(), count > 2 ? count : 2, shape->len));
	ipc::message_queue::remove(name.c_str());
	return queue;
}

int open_both(void **state, const struct shape *shape)
try {
	std::unique_ptr<queues> q(new queues());

	q->there = make(shape);
	q->back = make(shape);
	*state = q.release();
	return 0;
} catch (const ipc::interprocess_exception &e) {
	return e.get_native_error() ? -e.get_native_error() : -EIO;
} catch (const std::bad_alloc &) {
	return -ENOMEM;
}

int take(void *state, enum side side)
{
	queues *q = static_cast<queues *>(state);

	q->out = side == SIDE_LEAD ? q->there.get() : q->back.get();
	q->in = side == SIDE_LEAD ? q->back.get() : q->there.get();
	return 0;
}

int send(void *state, const void *buf, size_t len)
try {
	static_cast<queues *>(state)->out->send(buf, len, 0);
	return 0;
} catch (const ipc::interprocess_exception &) {
	return -EIO;
}

ssize_t recv(void *state, void *buf, size_t len)
try {
	ipc::message_queue::size_type got;
	unsigned priority;

	static_cast<queues *>(state)->in->receive(buf, len, got, priority);
	return static_cast<ssize_t>(got);
} catch (const ipc::interprocess_exception &) {
	return -EIO;
}

void close_both(void *state)
{
	delete static_cast<queues *>(state);
}

const char *version()
{
	return "Boost " BOOST_LIB_VERSION;
}

} // namespace

const struct transport transport_boost = {
	"boost",
	"Boost.Interprocess message_queue",
	TRANSPORT_EXTRA | TRANSPORT_MANY,
	open_both,
	take,
	send,
	recv,
	nullptr,
	nullptr,
	close_both,
	nullptr,
	nullptr,
	nullptr,
	nullptr,
	"as many messages as hold the bytes, two at least",
	version,
};
