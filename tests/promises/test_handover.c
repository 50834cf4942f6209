/* SPDX-License-Identifier: MIT */
/* Handing an end to another process over a Unix socket. */
#include "sandbox.h"
#include "support.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

SUITE(handover);

static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };

struct job {
	int socket;
	int end; /* which one comes */
};

/* Receives one end from the socket and uses it. The process has nothing else of the pipe. */
static void use_what_comes(void *arg)
{
	const struct job *job = arg;
	bufpipe_t *end;

	check_eq(bufpipe_recv_end(job->socket, &end), 0);
	if (job->end == IN) {
		char byte;

		hear(end, "before");
		hear(end, "after");
		/*
		 * Waits until the sender has returned from its call, which might otherwise end with -EPIPE.
		 */
		check_eq(recv(job->socket, &byte, 1, 0), 1);
	} else {
		say(end, "before");
		say(end, "after");
	}
	bufpipe_close(end);
}

static void hand_over(int type, int end, const struct bufpipe_options *options)
{
	struct child child;
	bufpipe_t *ends[2];
	int sockets[2];
	char byte;

	sockets_open(sockets, type);
	child = child_start(use_what_comes, &(struct job){ .socket = sockets[1], .end = end });
	/* Made after the fork, so the child has it only from the socket. */
	pipe_open(ends, options);
	if (end == IN)
		say(ends[OUT], "before");
	check_eq(bufpipe_send_end(sockets[0], ends[end]), 0);
	bufpipe_close(ends[end]);
	if (end == IN) {
		say(ends[OUT], "after");
		check_eq(send(sockets[0], "", 1, 0), 1);
		child_join(&child);
		check_eq(bufpipe_send(ends[OUT], "x", 1, -1), -EPIPE);
	} else {
		hear(ends[IN], "before");
		hear(ends[IN], "after");
		check_eq(bufpipe_recv(ends[IN], &byte, 1, PLENTY), -EPIPE);
		child_join(&child);
	}
	bufpipe_close(ends[!end]);
	sockets_close(sockets);
}

Test(handover, either_end_travels_over_a_socket_of_any_type)
{
	static const unsigned flags[] = { 0, BUFPIPE_DUPLEX, BUFPIPE_SHARED, BUFPIPE_PREFAULT };

	for (unsigned i = 0; i < 3 * 2 * 4; i++)
		hand_over(types[i % 3], i / 3 % 2, &(struct bufpipe_options){ .flags = flags[i / 6] });
}

Test(handover, both_ends_travel_to_two_processes)
{
	struct child receiver;
	struct child sender;
	bufpipe_t *ends[2];
	int to_receiver[2];
	int to_sender[2];

	sockets_open(to_receiver, SOCK_STREAM);
	sockets_open(to_sender, SOCK_DGRAM);
	receiver = child_start(use_what_comes, &(struct job){ .socket = to_receiver[1], .end = IN });
	sender = child_start(use_what_comes, &(struct job){ .socket = to_sender[1], .end = OUT });
	pipe_open(ends, NULL);
	check_eq(bufpipe_send_end(to_receiver[0], ends[IN]), 0);
	check_eq(bufpipe_send_end(to_sender[0], ends[OUT]), 0);
	pipe_close(ends);
	child_join(&sender);
	check_eq(send(to_receiver[0], "", 1, 0), 1);
	child_join(&receiver);
	sockets_close(to_receiver);
	sockets_close(to_sender);
}

Test(handover, an_end_keeps_its_properties_when_it_is_handed_over)
{
	struct bufpipe_options options = { .object_size = 16,
					   .object_count = 5,
					   .flags = BUFPIPE_INTERRUPTIBLE };
	struct bufpipe_info info;
	bufpipe_t *ends[2];
	bufpipe_t *copy;
	int sockets[2];

	sockets_open(sockets, SOCK_STREAM);
	pipe_open(ends, &options);
	check_eq(bufpipe_send_end(sockets[0], ends[OUT]), 0);
	check_eq(bufpipe_recv_end(sockets[1], &copy), 0);
	check_eq(bufpipe_get_info(copy, &info), 0);
	check_eq(info.object_size, 16);
	check_eq(info.object_count, 5);
	check_eq(info.flags, BUFPIPE_INTERRUPTIBLE);
	check(info.can_send && !info.can_recv);
	/* The original and the copy are the same end. They take turns, and both count as holders. */
	say(copy, "0123456789abcdef");
	bufpipe_close(ends[OUT]);
	say(copy, "fedcba9876543210");
	hear(ends[IN], "0123456789abcdef");
	hear(ends[IN], "fedcba9876543210");
	bufpipe_close(copy);
	check_eq(bufpipe_next(ends[IN], -1), -EPIPE);
	bufpipe_close(ends[IN]);
	sockets_close(sockets);
}

Test(handover, an_end_in_flight_lives)
{
	bufpipe_t *ends[2];
	bufpipe_t *landed;
	int sockets[2];
	char byte;

	sockets_open(sockets, SOCK_SEQPACKET);
	pipe_open(ends, NULL);
	check_eq(bufpipe_send_end(sockets[0], ends[OUT]), 0);
	bufpipe_close(ends[OUT]);
	check_eq(bufpipe_recv(ends[IN], &byte, 1, 0), -EAGAIN);
	check_eq(bufpipe_recv_end(sockets[1], &landed), 0);
	say(landed, "alive");
	hear(ends[IN], "alive");
	bufpipe_close(landed);
	/* An end that is never received dies with the socket. */
	check_eq(bufpipe_send_end(sockets[0], ends[IN]), 0);
	bufpipe_close(ends[IN]);
	sockets_close(sockets);
}

Test(handover, several_ends_come_in_order_over_a_stream)
{
	bufpipe_t *pipes[4][2];
	bufpipe_t *landed;
	int sockets[2];
	char name[2] = "0";

	sockets_open(sockets, SOCK_STREAM);
	for (int i = 0; i < 4; i++) {
		pipe_open(pipes[i], NULL);
		check_eq(bufpipe_send_end(sockets[0], pipes[i][OUT]), 0);
	}
	for (int i = 0; i < 4; i++) {
		check_eq(bufpipe_recv_end(sockets[1], &landed), 0);
		name[0] = (char)('0' + i);
		say(landed, name);
		bufpipe_close(landed);
		hear(pipes[i][IN], name);
		pipe_close(pipes[i]);
	}
	sockets_close(sockets);
}

Test(handover, arguments_are_checked)
{
	bufpipe_t *ends[2];
	bufpipe_t *landed = (void *)1;
	int sockets[2];
	int plain = open("/dev/null", O_RDWR | O_CLOEXEC);

	sockets_open(sockets, SOCK_STREAM);
	pipe_open(ends, NULL);
	check_eq(bufpipe_send_end(-1, ends[IN]), -EINVAL);
	check_eq(bufpipe_send_end(sockets[0], NULL), -EINVAL);
	check_eq(bufpipe_recv_end(-1, &landed), -EINVAL);
	check_eq(bufpipe_recv_end(sockets[0], NULL), -EINVAL);
	check_eq(bufpipe_send_end(plain, ends[IN]), -ENOTSOCK);
	check_eq(bufpipe_recv_end(plain, &landed), -ENOTSOCK);
	fcntl(sockets[0], F_SETFL, O_NONBLOCK);
	check_eq(bufpipe_recv_end(sockets[0], &landed), -EAGAIN);
	close(sockets[1]);
	check_eq(bufpipe_recv_end(sockets[0], &landed), -EPIPE);
	check_eq(bufpipe_send_end(sockets[0], ends[IN]), -EPIPE);
	check(landed == (void *)1);
	close(sockets[0]);
	close(plain);
	pipe_close(ends);
}

static void send_bytes(int socket, const void *bytes, size_t len, const int *fds, size_t n)
{
	char control[CMSG_SPACE(64 * sizeof(int))] = { 0 };
	struct iovec piece = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = len };
	struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1 };

	if (n) {
		struct cmsghdr *header;

		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		*header = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
					    .cmsg_type = SCM_RIGHTS,
					    .cmsg_len = CMSG_LEN(n * sizeof(int)) };
		memcpy(CMSG_DATA(header), fds, n * sizeof(int));
	}
	check_eq(sendmsg(socket, &message, MSG_NOSIGNAL), len);
}

Test(handover, garbage_is_no_end_and_leaks_no_descriptor)
{
	static const size_t lengths[] = { 1, 8, 23, 24, 25, 4096 };
	static const size_t counts[] = { 0, 1, 2, 3, 4, 5, 30 };
	static char bytes[4096];
	bufpipe_t *landed = (void *)1;
	int fds[30];

	need_stray_children();
	memset(bytes, 0x5a, sizeof(bytes));
	for (int i = 0; i < 30; i++)
		fds[i] = 0;
	for (unsigned i = 0; i < 3 * 6 * 7; i++) {
		int sockets[2];
		int before;

		sockets_open(sockets, types[i % 3]);
		before = descriptors_open();
		send_bytes(sockets[0], bytes, lengths[i / 3 % 6], fds, counts[i / 18]);
		/* Closes the writing side, so that a stream does not wait for the rest. */
		shutdown(sockets[0], SHUT_WR);
		check_eq(bufpipe_recv_end(sockets[1], &landed), -EBADMSG);
		wait_for_descriptors(before);
		check(landed == (void *)1);
		sockets_close(sockets);
	}
}

/* Receives an end while only so many descriptors are free. */
static int take_with_room(int socket, int room, bufpipe_t **landed)
{
	struct rlimit tight;
	struct rlimit was;
	int limit = 0;
	int r;

	/* The free numbers may have gaps. */
	for (int left = room; left || fcntl(limit, F_GETFD) >= 0; limit++)
		left -= fcntl(limit, F_GETFD) < 0;
	check_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
	tight = (struct rlimit){ .rlim_cur = (rlim_t)limit, .rlim_max = was.rlim_max };
	check_eq(setrlimit(RLIMIT_NOFILE, &tight), 0);
	r = bufpipe_recv_end(socket, landed);
	check_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
	return r;
}

Test(handover, without_descriptors_fails_and_leaks_none)
{
	bufpipe_t *ends[2];

	need_limits();
	pipe_open(ends, NULL);
	for (unsigned i = 0; i < 3 * 5; i++) {
		bufpipe_t *landed = (void *)1;
		int room = (int)(i / 3);
		int sockets[2];
		int before;

		sockets_open(sockets, types[i % 3]);
		check_eq(bufpipe_send_end(sockets[0], ends[OUT]), 0);
		before = descriptors_open();
		if (room < 3) {
			check_eq(take_with_room(sockets[1], room, &landed), -EMFILE);
			check(landed == (void *)1);
			wait_for_descriptors(before);
			/* When there are enough descriptors again, the next end arrives. */
			check_eq(bufpipe_send_end(sockets[0], ends[OUT]), 0);
		}
		check_eq(take_with_room(sockets[1], 3, &landed), 0);
		say(landed, "here");
		hear(ends[IN], "here");
		bufpipe_close(landed);
		wait_for_descriptors(before);
		sockets_close(sockets);
	}
	pipe_close(ends);
}

Test(handover, a_packet_with_too_many_descriptors_is_refused_however_many_are_free)
{
	static char bytes[24];
	int fds[60] = { 0 };

	need_stray_children();
	need_limits();
	for (int room = 3; room < 70; room++) {
		bufpipe_t *landed = (void *)1;
		int sockets[2];
		int before;

		sockets_open(sockets, SOCK_SEQPACKET);
		send_bytes(sockets[0], bytes, sizeof(bytes), fds, 60);
		before = descriptors_open();
		check_eq(take_with_room(sockets[1], room, &landed), -EBADMSG);
		check(landed == (void *)1);
		wait_for_descriptors(before);
		sockets_close(sockets);
	}
}

/* A packet that bufpipe_send_end has sent, intercepted by the test. */
struct caught {
	char bytes[256];
	size_t len;
	int fds[3];
};

static void catch_end(bufpipe_t *end, struct caught *caught)
{
	char control[CMSG_SPACE(3 * sizeof(int))];
	struct iovec piece = { .iov_base = caught->bytes, .iov_len = sizeof(caught->bytes) };
	struct msghdr message = {
		.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	int sockets[2];

	sockets_open(sockets, SOCK_SEQPACKET);
	check_eq(bufpipe_send_end(sockets[0], end), 0);
	caught->len = (size_t)recvmsg(sockets[1], &message, MSG_CMSG_CLOEXEC);
	check(caught->len < sizeof(caught->bytes));
	check_eq(CMSG_FIRSTHDR(&message)->cmsg_len, CMSG_LEN(3 * sizeof(int)));
	memcpy(caught->fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), 3 * sizeof(int));
	sockets_close(sockets);
}

static int replay(const struct caught *caught, const int fds[3])
{
	bufpipe_t *landed = (void *)1;
	int sockets[2];
	int before;
	int r;

	sockets_open(sockets, SOCK_SEQPACKET);
	send_bytes(sockets[0], caught->bytes, caught->len, fds, 3);
	before = descriptors_open();
	r = bufpipe_recv_end(sockets[1], &landed);
	if (r == 0) {
		bufpipe_close(landed);
	} else {
		check(landed == (void *)1);
	}
	wait_for_descriptors(before);
	sockets_close(sockets);
	return r;
}

Test(handover, a_genuine_packet_with_a_wrong_descriptor_is_refused)
{
	struct caught caught;
	bufpipe_t *ends[2];
	int stream[2];
	int others[8] = { 0 };

	need_stray_children();
	sockets_open(stream, SOCK_STREAM);
	pipe_open(ends, NULL);
	catch_end(ends[OUT], &caught);
	others[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
	others[1] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	others[2] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	others[3] = open("/", O_PATH | O_CLOEXEC);
	others[4] = memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	others[5] = stream[0];
	check_eq(replay(&caught, caught.fds), 0);
	for (int place = 0; place < 3; place++) {
		for (int i = 0; i < 6; i++) {
			int fds[3] = { caught.fds[0], caught.fds[1], caught.fds[2] };

			fds[place] = others[i];
			check_eq(replay(&caught, fds), -EBADMSG);
		}
	}
	for (int i = 0; i < 6; i++)
		close(i == 5 ? stream[1] : others[i]);
	close(stream[0]);
	for (int i = 0; i < 3; i++)
		close(caught.fds[i]);
	pipe_close(ends);
}

Test(handover, every_changed_byte_is_noticed_or_harmless)
{
	struct caught caught;
	struct caught changed;
	bufpipe_t *ends[2];

	need_stray_children();
	pipe_open(ends, NULL);
	catch_end(ends[OUT], &caught);
	for (size_t i = 0; i < caught.len; i++) {
		int r;

		changed = caught;
		changed.bytes[i] ^= (char)0xff;
		r = replay(&changed, caught.fds);
		check(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT);
		if (i < 8)
			check_eq(r, -EBADMSG); /* the packet begins with the magic number */
		else if (i < 12)
			check_eq(r, -EPROTONOSUPPORT); /* and then the version */
	}
	say(ends[OUT], "unharmed");
	hear(ends[IN], "unharmed");
	for (int i = 0; i < 3; i++)
		close(caught.fds[i]);
	pipe_close(ends);
}

Test(handover, the_peer_s_region_cannot_be_written_through_what_arrives)
{
	struct caught caught;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	catch_end(ends[OUT], &caught);
	/* The second descriptor is the other end's region, which this end may only read. */
	check(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, caught.fds[1], 0) == MAP_FAILED);
	check_eq(errno, EACCES);
	check(write(caught.fds[1], "x", 1) < 0);
	check(ftruncate(caught.fds[0], 0) < 0);
	check(ftruncate(caught.fds[1], 0) < 0);
	for (int i = 0; i < 3; i++)
		close(caught.fds[i]);
	pipe_close(ends);
}
