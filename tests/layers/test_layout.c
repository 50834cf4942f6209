/* SPDX-License-Identifier: MIT */
/*
 * The shared memory is an interface between processes of different builds, so everything stays where it is.
 */
#include "support.h"

#include "end/end.h"

SUITE(layout);

Test(layout, of_the_control_page_is_as_documented)
{
	check_eq(offsetof(struct control, identity), 0);
	check_eq(offsetof(struct control, send_waiter), 64);
	check_eq(offsetof(struct control, recv_waiter), 128);
	check_eq(offsetof(struct control, head), 192);
	check_eq(offsetof(struct control, tail), 256);
	check_eq(offsetof(struct control, recv_notify), 320);
	check_eq(offsetof(struct control, send_lock), 384);
	check_eq(offsetof(struct control, send_meter), 640);
	check_eq(offsetof(struct control, recv_meter), 768);
	check_eq(offsetof(struct control, about), 896);
	check_eq(offsetof(struct control, send_owner), 1152);
	check(sizeof(struct control) <= 4096);
}

Test(layout, of_the_identity_is_as_documented)
{
	check_eq(offsetof(struct identity, magic), 0);
	check_eq(offsetof(struct identity, version), 8);
	check_eq(offsetof(struct identity, flags), 12);
	check_eq(offsetof(struct identity, buffer_size), 16);
	check_eq(offsetof(struct identity, object_size), 24);
	check_eq(offsetof(struct identity, data_size), 32);
	check_eq(offsetof(struct identity, limit), 40);
}

Test(layout, magic_is_readable_in_a_dump)
{
	uint64_t magic = LAYOUT_MAGIC;

	check(!memcmp(&magic, "bufpipe", 8) || !memcmp((char *)&magic + 1, "epipfub", 7));
}

Test(layout, record_has_a_header_and_is_aligned)
{
	check_eq(record_size(0), 8);
	check_eq(record_size(1), 16);
	check_eq(record_size(8), 16);
	check_eq(record_size(9), 24);
	for (uint64_t len = 0; len < 1000; len++) {
		check_eq(record_size(len) % 8, 0);
		check(record_size(len) >= len + RECORD_HEADER && record_size(len) < len + RECORD_HEADER + 8);
	}
	check(record_size(LAYOUT_MAX) > LAYOUT_MAX);
}

/* A header of any kind is never 0, and its length never reaches its flags. */
Test(layout, flags_and_length_of_a_header_are_apart)
{
	static const uint64_t flags[] = { RECORD_WHOLE, RECORD_FIRST, RECORD_MORE, RECORD_END };

	for (int i = 0; i < 4; i++) {
		check(flags[i] != 0);
		check_eq(flags[i] & RECORD_LENGTH, 0);
		for (int j = 0; j < i; j++)
			check_eq(flags[i] & flags[j], 0);
	}
	check(LAYOUT_MAX <= RECORD_LENGTH);
}

/*
 * The receiver sees what the sender finds out about cache lines. It waits longer for that only in a large
 * ring.
 */
Test(layout, hints_of_the_sender_reach_the_receiver)
{
	for (int large = 0; large < 2; large++) {
		const struct bufpipe_options options = { .buffer_size = large ? 1 << 20 : 1 << 18 };
		bufpipe_t *ends[2];

		check_eq(bufpipe_create(ends, &options), 0);
		atomic_store(&ends[1]->sender.waiter->remote, 3);
		atomic_store(&ends[1]->sender.waiter->clearing, -2);
		check_eq(atomic_load(&ends[0]->in.wait.theirs->remote), 3);
		check_eq(atomic_load(&ends[0]->in.wait.theirs->clearing), -2);
		check_eq(ends[0]->in.wait.may_linger, large);
		bufpipe_close(ends[0]);
		bufpipe_close(ends[1]);
	}
}
