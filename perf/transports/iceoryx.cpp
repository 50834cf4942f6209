/* SPDX-License-Identifier: MIT */
/*
 * Eclipse iceoryx 2.0: an untyped publisher and subscriber for each direction,
 * once with copies at both sides, and once written and read in place.  A
 * subscriber looks first and sleeps in a wait set.  Its daemon, iox-roudi, is started by the first
 * measurement that needs it and ends with the benchmark.
 */
extern "C" {
#include "../transport.h"
#include "name.h"
extern const struct transport transport_iceoryx;
extern const struct transport transport_iceoryx_zero;
}

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <iceoryx_hoofs/log/logmanager.hpp>
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>
#include <iceoryx_posh/popo/wait_set.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>
#include <memory>
#include <new>
#include <poll.h>
#include <signal.h>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace
{

/* Chunks for every size of message that is measured by default; 64 bytes of each are its own. */
const char pools[] = "[general]\nversion = 1\n[[segment]]\n"
		     "[[segment.mempool]]\nsize = 256\ncount = 4000\n"
		     "[[segment.mempool]]\nsize = 4352\ncount = 1000\n"
		     "[[segment.mempool]]\nsize = 33024\ncount = 100\n"
		     "[[segment.mempool]]\nsize = 262400\ncount = 40\n"
		     "[[segment.mempool]]\nsize = 1048832\ncount = 20\n";
constexpr size_t LEN_MAX = 1048576;
constexpr size_t QUEUE_MAX = 256;

pid_t daemon_pid;
pid_t owner_pid;

void stop_daemon()
{
	if (getpid() != owner_pid || daemon_pid <= 0)
		return;
	kill(daemon_pid, SIGTERM);
	waitpid(daemon_pid, nullptr, 0);
	daemon_pid = 0;
}

int write_config(char path[])
{
	int fd = mkstemp(path);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, pools, sizeof(pools) - 1);
	close(fd);
	return n == sizeof(pools) - 1 ? 0 : -EIO;
}

/* Reads what the daemon prints until it is ready; false when it ends before, or takes too long. */
bool becomes_ready(int out)
{
	std::string said;
	char part[256];

	for (;;) {
		struct pollfd waiting = { out, POLLIN, 0 };
		ssize_t n;

		if (poll(&waiting, 1, 20000) != 1)
			return false;
		n = read(out, part, sizeof(part));
		if (n <= 0)
			return false;
		said.append(part, static_cast<size_t>(n));
		if (said.find("ready for clients") != std::string::npos)
			return true;
	}
}

void run_daemon(const char *config, int out, pid_t runner)
{
	sigset_t none;

	if (prctl(PR_SET_PDEATHSIG, SIGTERM) || getppid() != runner)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, nullptr);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execlp("iox-roudi", "iox-roudi", "-m", "on", "-c", config, static_cast<char *>(nullptr));
	_exit(127);
}

int start_daemon()
{
	char config[] = "/tmp/bufpipe-bench-roudi-XXXXXX";
	int out[2], err = write_config(config);
	pid_t runner = getpid();

	if (err)
		return err;
	if (pipe2(out, O_CLOEXEC)) {
		unlink(config);
		return -errno;
	}
	fflush(nullptr);
	daemon_pid = fork();
	if (daemon_pid == 0)
		run_daemon(config, out[1], runner);
	close(out[1]);
	owner_pid = runner;
	atexit(stop_daemon);
	/* The reading end stays open: the daemon may want to say more. */
	if (daemon_pid < 0 || !becomes_ready(out[0])) {
		stop_daemon();
		daemon_pid = -1;
		fprintf(stderr, "bufpipe-bench: iox-roudi does not start; iceoryx is left out\n");
	}
	unlink(config);
	return 0;
}

struct ports {
	char name[NAME_MAX_LEN];
	size_t len;
	size_t count;
	void *chunk;       /* loaned, and not published yet */
	const void *taken; /* and not released yet */
	std::unique_ptr<iox::popo::UntypedPublisher> out;
	std::unique_ptr<iox::popo::UntypedSubscriber> in;
	std::unique_ptr<iox::popo::WaitSet<>> set;
};

int open_both(void **state, const struct shape *shape)
{
	std::unique_ptr<ports> p(new (std::nothrow) ports());
	int err = daemon_pid ? 0 : start_daemon();

	if (!p)
		return -ENOMEM;
	if (err)
		return err;
	if (daemon_pid < 0 || shape->len > LEN_MAX)
		return -EOPNOTSUPP;
	make_name(p->name, "iox");
	p->len = shape->len;
	p->count = shape->ring / shape->len;
	p->count = p->count < 2 ? 2 : p->count > QUEUE_MAX ? QUEUE_MAX : p->count;
	*state = p.release();
	return 0;
}

iox::capro::ServiceDescription service(const ports *p, const char *direction)
{
	using text = iox::capro::IdString_t;

	return { text("bufpipe-bench"), text(iox::cxx::TruncateToCapacity, p->name),
		 text(iox::cxx::TruncateToCapacity, direction) };
}

/* Until the other side's ports are there too. */
int meet(const ports *p)
{
	const struct timespec moment = { 0, 1000000 };

	for (int i = 0; i < 20000; i++) {
		if (p->out->hasSubscribers() &&
		    p->in->getSubscriptionState() == iox::SubscribeState::SUBSCRIBED)
			return 0;
		nanosleep(&moment, nullptr);
	}
	return -ETIMEDOUT;
}

int take(void *state, enum side side)
{
	ports *p = static_cast<ports *>(state);
	bool leads = side == SIDE_LEAD;
	std::string name = std::string(p->name) + (leads ? "-lead" : "-echo");
	iox::popo::PublisherOptions publisher;
	iox::popo::SubscriberOptions subscriber;

	iox::log::LogManager::GetLogManager().SetDefaultLogLevel(iox::log::LogLevel::kOff,
								iox::log::LogLevelOutput::kHideLogLevel);
	iox::runtime::PoshRuntime::initRuntime(iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name));
	publisher.subscriberTooSlowPolicy = iox::popo::ConsumerTooSlowPolicy::WAIT_FOR_CONSUMER;
	subscriber.queueFullPolicy = iox::popo::QueueFullPolicy::BLOCK_PRODUCER;
	subscriber.queueCapacity = p->count;
	p->in.reset(new iox::popo::UntypedSubscriber(service(p, leads ? "back" : "there"), subscriber));
	p->out.reset(new iox::popo::UntypedPublisher(service(p, leads ? "there" : "back"), publisher));
	p->set.reset(new iox::popo::WaitSet<>());
	if (p->set->attachState(*p->in, iox::popo::SubscriberState::HAS_DATA).has_error())
		return -EIO;
	return meet(p);
}

int reserve(void *state, void **room, size_t len)
{
	ports *p = static_cast<ports *>(state);
	int err = -EIO;

	p->out->loan(static_cast<uint32_t>(len))
		.and_then([&](void *&chunk) {
			*room = p->chunk = chunk;
			err = 0;
		})
		.or_else([](iox::popo::AllocationError) {});
	return err;
}

int commit(void *state, size_t)
{
	ports *p = static_cast<ports *>(state);

	p->out->publish(p->chunk);
	return 0;
}

ssize_t peek(void *state, const void **message)
{
	ports *p = static_cast<ports *>(state);

	for (p->taken = nullptr;;) {
		p->in->take()
			.and_then([&](const void *chunk) { *message = p->taken = chunk; })
			.or_else([](iox::popo::ChunkReceiveResult) {});
		if (p->taken)
			return static_cast<ssize_t>(p->len);
		p->set->wait();
	}
}

int release(void *state)
{
	ports *p = static_cast<ports *>(state);

	p->in->release(p->taken);
	return 0;
}

int send(void *state, const void *buf, size_t len)
{
	void *room;
	int err = reserve(state, &room, len);

	if (err)
		return err;
	memcpy(room, buf, len);
	return commit(state, len);
}

ssize_t recv(void *state, void *buf, size_t len)
{
	const void *message;

	peek(state, &message);
	memcpy(buf, message, len);
	release(state);
	return static_cast<ssize_t>(len);
}

/* The runtime ends with its process, and cannot be created a second time in the same process. */
void close_both(void *state)
{
	ports *p = static_cast<ports *>(state);

	p->set.reset();
	p->in.reset();
	p->out.reset();
	delete p;
}

const char *version()
{
	return "iceoryx " PERF_ICEORYX_VERSION;
}

} // namespace

const struct transport transport_iceoryx = {
	"iceoryx",
	"Eclipse iceoryx, copied at both sides, with a wait set",
	TRANSPORT_EXTRA,
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
	"the subscriber's queue, two messages at least and 256 at most",
	version,
};

const struct transport transport_iceoryx_zero = {
	"iceoryx-zero",
	"Eclipse iceoryx, written and read in place, with a wait set",
	TRANSPORT_EXTRA,
	open_both,
	take,
	nullptr,
	nullptr,
	nullptr,
	nullptr,
	close_both,
	reserve,
	commit,
	peek,
	release,
	"the subscriber's queue, two messages at least and 256 at most",
	version,
};
