/* SPDX-License-Identifier: MIT */
/* Making a pipe: options, defaults, what it reports about itself, and what is refused. */
#include "support.h"

#include <fcntl.h>
#include <sys/resource.h>

SUITE(create);

static struct bufpipe_info info_of(const bufpipe_t *pipe)
{
	struct bufpipe_info info;

	check_eq(bufpipe_get_info(pipe, &info), 0);
	return info;
}

static void refused(const struct bufpipe_options *options)
{
	bufpipe_t *ends[2] = { (void *)1, (void *)2 };

	check_eq(bufpipe_create(ends, options), -EINVAL);
	check(ends[0] == (void *)1 && ends[1] == (void *)2);
}

Test(create, without_options_makes_a_generic_pipe_of_64k)
{
	struct bufpipe_info receiving;
	struct bufpipe_info sending;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	receiving = info_of(ends[IN]);
	sending = info_of(ends[OUT]);
	check(receiving.can_recv && !receiving.can_send);
	check(sending.can_send && !sending.can_recv);
	check_eq(sending.buffer_size, 65536);
	check_eq(receiving.buffer_size, sending.buffer_size);
	check_eq(sending.object_size, 0);
	check_eq(sending.object_count, 0);
	check_eq(sending.flags, 0);
	check_eq(sending.pid, getpid());
	check_eq(sending.uid, getuid());
	check_eq(sending.gid, getgid());
	pipe_close(ends);
}

Test(create, takes_all_zero_options_as_defaults)
{
	struct bufpipe_options options = { 0 };
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	check_eq(info_of(ends[OUT]).buffer_size, 65536);
	pipe_close(ends);
}

Test(create, a_buffer_is_as_large_as_was_asked_for)
{
	static const size_t sizes[] = { 64, 65, 1000, 4080, 4096, 65535, 65536, 1 << 20, 3000000 };
	static char message[3000000];

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct bufpipe_options options = { .buffer_size = sizes[i] };
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		check_eq(info_of(ends[IN]).buffer_size, sizes[i]);
		check_eq(info_of(ends[OUT]).buffer_size, sizes[i]);
		/* One message of that length fits, and then not even an empty one. */
		check_eq(bufpipe_send(ends[OUT], message, sizes[i] + 1, 0), -EMSGSIZE);
		check_eq(bufpipe_send(ends[OUT], message, sizes[i], 0), 0);
		check_eq(bufpipe_send(ends[OUT], NULL, 0, 0), -EAGAIN);
		check_eq(bufpipe_recv(ends[IN], message, sizeof(message), 0), sizes[i]);
		pipe_close(ends);
	}
}

Test(create, a_tiny_buffer_becomes_64_bytes)
{
	struct bufpipe_options options = { .buffer_size = 1 };
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	check_eq(info_of(ends[OUT]).buffer_size, 64);
	pipe_close(ends);
}

Test(create, duplex_ends_go_both_ways)
{
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	for (int i = 0; i < 2; i++) {
		struct bufpipe_info info = info_of(ends[i]);

		check(info.can_send && info.can_recv);
		check_eq(info.flags, BUFPIPE_DUPLEX);
		say(ends[i], i ? "one" : "other");
		hear(ends[!i], i ? "one" : "other");
	}
	pipe_close(ends);
}

Test(create, static_pipe_reports_size_and_count_of_its_objects)
{
	struct bufpipe_options options = { .object_size = 24, .object_count = 7 };
	struct bufpipe_info info;
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	for (int i = 0; i < 2; i++) {
		info = info_of(ends[i]);
		check_eq(info.object_size, 24);
		check_eq(info.object_count, 7);
		check_eq(info.buffer_size, 0);
	}
	pipe_close(ends);
}

Test(create, static_pipe_holds_64k_worth_by_default)
{
	struct bufpipe_options options = { .object_size = 100 };
	bufpipe_t *ends[2];

	pipe_open(ends, &options);
	check_eq(info_of(ends[OUT]).object_count, 65536 / 100);
	check_eq(fill_up(ends[OUT], 100), 65536 / 100);
	pipe_close(ends);
	options.object_size = 1 << 20;
	pipe_open(ends, &options);
	check_eq(info_of(ends[OUT]).object_count, 1);
	check_eq(fill_up(ends[OUT], 1 << 20), 1);
	pipe_close(ends);
}

Test(create, memory_hints_still_give_a_working_pipe)
{
	static const unsigned flags[] = { BUFPIPE_HUGEPAGES, BUFPIPE_PREFAULT,
					  BUFPIPE_HUGEPAGES | BUFPIPE_PREFAULT };
	static const size_t sizes[] = { 1, 4096, 3 << 20 };

	for (unsigned i = 0; i < 9; i++) {
		struct bufpipe_options options = { .buffer_size = sizes[i / 3], .flags = flags[i % 3] };
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		say(ends[OUT], "hint");
		hear(ends[IN], "hint");
		pipe_close(ends);
	}
}

Test(create, locked_pipe_works_or_returns_a_documented_error)
{
	struct bufpipe_options options = { .flags = BUFPIPE_LOCKED };
	bufpipe_t *ends[2];
	int r = bufpipe_create(ends, &options);

	if (r < 0) {
		check(r == -ENOMEM || r == -EPERM || r == -EAGAIN);
		return;
	}
	say(ends[OUT], "locked");
	hear(ends[IN], "locked");
	pipe_close(ends);
}

Test(create, refuses_bad_options)
{
	static char long_name[202];
	static const struct bufpipe_options bad[] = {
		{ .buffer_size = 1, .object_size = 1 },
		{ .object_count = 1 },
		{ .buffer_size = ((size_t)1 << 40) + 1 },
		{ .buffer_size = SIZE_MAX },
		{ .object_size = ((size_t)1 << 40) + 1 },
		{ .object_size = SIZE_MAX },
		{ .object_size = 8, .object_count = SIZE_MAX },
		{ .object_size = (size_t)1 << 32, .object_count = (size_t)1 << 32 },
		{ .object_size = 8, .object_count = SIZE_MAX / 16 + 1 },
		{ .flags = 1u << 31 },
		{ .flags = BUFPIPE_NO_HANDOVER << 1 },
		{ .flags = BUFPIPE_SEND },
		{ .flags = BUFPIPE_RECEIVE },
		{ .flags = BUFPIPE_SEND | BUFPIPE_RECEIVE },
		{ .spin_ns = -3 },
		{ .spin_ns = INT64_MIN },
		{ .name = long_name },
	};

	memset(long_name, 'x', 201);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		refused(&bad[i]);
	check_eq(bufpipe_create(NULL, NULL), -EINVAL);
}

Test(create, shows_its_name_in_the_list_of_mappings)
{
	char name[201];
	struct bufpipe_options options = { .name = name };
	bufpipe_t *ends[2];
	char line[512];
	FILE *maps;
	int found = 0;

	memset(name, 'n', 200);
	name[200] = '\0';
	pipe_open(ends, &options);
	memset(name, 'x', 200); /* it has been copied */
	maps = fopen("/proc/self/maps", "re");
	while (fgets(line, sizeof(line), maps))
		found += strstr(line, "/memfd:nnnn") != NULL;
	fclose(maps);
	check(found > 0);
	pipe_close(ends);
}

Test(create, every_descriptor_is_close_on_exec)
{
	struct bufpipe_options options = { .flags = BUFPIPE_DUPLEX };
	bufpipe_t *ends[2];
	bool had[256];
	int fresh = 0;

	for (int fd = 0; fd < 256; fd++)
		had[fd] = fcntl(fd, F_GETFD) >= 0;
	pipe_open(ends, &options);
	for (int fd = 0; fd < 256; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (had[fd] || flags < 0)
			continue;
		check(flags & FD_CLOEXEC);
		fresh++;
	}
	check_eq(fresh, 6); /* the documented number: three for each end */
	pipe_close(ends);
}

Test(create, without_descriptors_fails_and_leaks_none)
{
	int before = descriptors_open();
	struct rlimit was;
	bufpipe_t *ends[2] = { NULL, NULL };
	int lowest;
	int r = -1;

	check_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
	lowest = dup(0);
	close(lowest);
	for (int room = 0; r < 0; room++) {
		struct rlimit tight = { .rlim_cur = (rlim_t)(lowest + room), .rlim_max = was.rlim_max };

		check(room < 20);
		setrlimit(RLIMIT_NOFILE, &tight);
		r = bufpipe_create(ends, NULL);
		setrlimit(RLIMIT_NOFILE, &was);
		if (r < 0) {
			check_eq(r, -EMFILE);
			check_eq(descriptors_open(), before);
			check(!ends[0] && !ends[1]);
		}
	}
	pipe_close(ends);
}

Test(create, every_call_refuses_null)
{
	struct bufpipe_info info;
	bufpipe_t *ends[2];
	void *room;
	const void *there;

	pipe_open(ends, NULL);
	bufpipe_close(NULL);
	check_eq(bufpipe_shutdown(NULL), -EINVAL);
	check_eq(bufpipe_shutdown_within(NULL, 0), -EINVAL);
	check_eq(bufpipe_shutdown_within(ends[OUT], -2), -EINVAL);
	check_eq(bufpipe_get_info(NULL, &info), -EINVAL);
	check_eq(bufpipe_get_info(ends[IN], NULL), -EINVAL);
	check_eq(bufpipe_send(NULL, "x", 1, 0), -EINVAL);
	check_eq(bufpipe_send(ends[OUT], NULL, 1, 0), -EINVAL);
	check_eq(bufpipe_recv(NULL, &info, 1, 0), -EINVAL);
	check_eq(bufpipe_recv(ends[IN], NULL, 1, 0), -EINVAL);
	check_eq(bufpipe_next(NULL, 0), -EINVAL);
	check_eq(bufpipe_reserve(NULL, &room, 1, 0), -EINVAL);
	check_eq(bufpipe_reserve(ends[OUT], NULL, 1, 0), -EINVAL);
	check_eq(bufpipe_commit(NULL, 0), -EINVAL);
	check_eq(bufpipe_cancel(NULL), -EINVAL);
	check_eq(bufpipe_peek(NULL, &there, 0), -EINVAL);
	check_eq(bufpipe_peek(ends[IN], NULL, 0), -EINVAL);
	check_eq(bufpipe_release(NULL), -EINVAL);
	check_eq(bufpipe_unpeek(NULL), -EINVAL);
	pipe_close(ends);
}

Test(create, a_thousand_times_leaves_nothing)
{
	for (int i = 0; i < 1000; i++) {
		struct bufpipe_options options = { .flags = i % 2 ? BUFPIPE_DUPLEX : 0 };
		bufpipe_t *ends[2];

		pipe_open(ends, &options);
		say(ends[OUT], "x");
		pipe_close(ends);
	}
}

Test(create, an_end_without_hand_over_keeps_one_descriptor)
{
	const struct bufpipe_options options = { .flags = BUFPIPE_NO_HANDOVER };
	int before = descriptors_open();
	bufpipe_t *ends[2];
	char got = 0;

	check_eq(bufpipe_create(ends, &options), 0);
	check_eq(descriptors_open(), before + 2);
	check_eq(bufpipe_send_end(0, ends[0]), -EOPNOTSUPP);
	check_eq(bufpipe_send(ends[1], "x", 1, 0), 0);
	check_eq(bufpipe_recv(ends[0], &got, 1, 0), 1);
	check_eq(got, 'x');
	bufpipe_close(ends[0]);
	bufpipe_close(ends[1]);
}

Test(create, tells_how_much_of_the_ring_is_used)
{
	struct bufpipe_info info;
	bufpipe_t *ends[2];

	pipe_open(ends, NULL);
	for (int i = 0; i < 2; i++) {
		check_eq(bufpipe_get_info(ends[i], &info), 0);
		check_eq(info.used, 0);
	}
	say(ends[OUT], "1234");
	say(ends[OUT], "12345678");
	for (int i = 0; i < 2; i++) {
		check_eq(bufpipe_get_info(ends[i], &info), 0);
		check_eq(info.used, 32);
	}
	hear(ends[IN], "1234");
	check_eq(bufpipe_get_info(ends[OUT], &info), 0);
	check_eq(info.used, 16);
	pipe_close(ends);
}
