/* SPDX-License-Identifier: MIT */
/*
 * A process is killed after any instruction of a call that moves messages. All other processes go on: no
 * message is lost, torn or duplicated, and nobody hangs. BUFPIPE_KILL_ALL=1 tries every instruction of the
 * long calls too.
 */
#include "bufpipe.h"
#include "kill/kill_scene.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const char *const verb_names[] = {
	[SEND] = "send",
	[SENDV] = "sendv",
	[SEND_MANY] = "send_many",
	[RESERVE] = "reserve and commit",
	[SEND_LONG] = "long send",
	[GIVE_UP] = "long send that gives up",
	[SHUTDOWN_SENDER] = "sender's shutdown",
	[CLOSE_SENDER] = "sender's close",
	[RECV] = "recv",
	[RECV_MANY] = "recv_many",
	[PEEK] = "peek and release",
	[RECV_LONG] = "long recv",
	[SHUTDOWN_RECEIVER] = "receiver's shutdown",
	[CLOSE_RECEIVER] = "receiver's close",
};
static const char *const fill_names[] = { "empty", "some", "nearly full", "full" };
static const char *const peer_names[] = { "awake", "on futex", "on socket", "busy" };

static void run(struct plan plan)
{
	char name[128];
	struct campaign c = { .name = name, .run = scene_run, .plan = &plan, .budget = 8000 };

	/*
	 * There are many ways of waiting, and trying all of them is worth more than trying more points of
	 * each.
	 */
	if (plan.peer == BUSY)
		c.budget = 30000;
	/*
	 * Trials in which a sleeper must first go from the futex to the socket mostly wait, so many of them
	 * run at once.
	 */
	c.workers = plan.peer == ON_SOCKET || plan.delay_ms >= 40 ? 32 : 6;
	snprintf(name, sizeof(name), "%s%s%s, ring %s, peer %s%s%s%s", verb_names[plan.verb],
		 plan.flags & BUFPIPE_SHARED ? ", shared" : "", plan.object_size ? ", static" : "",
		 fill_names[plan.fill], peer_names[plan.peer], plan.last ? ", last holder" : "",
		 plan.crowd ? ", contended" : "", plan.deaf ? ", nobody receives" : "");
	stepper_campaign(&c);
}

static const unsigned modes[] = { 0, BUFPIPE_SHARED };

/* For both kinds of ends, with and without a co-owner. */
static void run_all_modes(struct plan plan)
{
	for (int i = 0; i < 4; i++) {
		plan.flags = modes[i / 2];
		plan.last = i % 2;
		run(plan);
	}
}

TestSuite(kill_step, .init = stepper_require, .timeout = 100000);

Test(kill_step, a_killed_sender_while_the_receiver_is_awake)
{
	for (enum verb verb = SEND; verb <= RESERVE; verb++) {
		run_all_modes((struct plan){ .verb = verb, .fill = EMPTY });
		run_all_modes((struct plan){ .verb = verb, .fill = NEARLY_FULL });
	}
	run((struct plan){ .verb = SEND, .fill = SOME, .object_size = 64 });
}

Test(kill_step, a_killed_sender_while_the_receiver_sleeps)
{
	for (enum verb verb = SEND; verb <= SEND_LONG; verb++)
		run_all_modes((struct plan){ .verb = verb, .peer = ON_FUTEX });
	for (enum verb verb = SEND; verb <= SEND_LONG; verb++)
		run((struct plan){ .verb = verb, .peer = ON_SOCKET, .flags = BUFPIPE_SHARED });
	run((struct plan){ .verb = SEND, .peer = ON_SOCKET });
}

/* The receiver has a part of the message or nothing, and sleeps in the middle. */
Test(kill_step, a_killed_sender_that_gives_up)
{
	run_all_modes((struct plan){ .verb = GIVE_UP });
	run_all_modes((struct plan){ .verb = GIVE_UP, .peer = ON_FUTEX });
	run((struct plan){ .verb = GIVE_UP, .peer = ON_SOCKET, .flags = BUFPIPE_SHARED });
}

Test(kill_step, a_killed_sender_that_waits_for_room)
{
	for (int i = 0; i < 2; i++) {
		for (unsigned ms = 1; ms <= 20; ms *= 20) {
			struct plan plan = { .fill = FULL, .peer = BUSY, .delay_ms = ms, .flags = modes[i] };

			run(plan);
			plan.verb = SEND_LONG;
			run(plan);
			plan.last = true;
			run(plan);
		}
	}
}

Test(kill_step, a_killed_sender_that_finds_the_receiver_shut_down)
{
	for (enum verb verb = SEND; verb <= SEND_LONG; verb++)
		run_all_modes((struct plan){ .verb = verb, .fill = SOME, .deaf = true });
}

Test(kill_step, a_killed_receiver_while_the_sender_is_awake)
{
	for (enum verb verb = RECV; verb <= PEEK; verb++) {
		run_all_modes((struct plan){ .verb = verb, .fill = SOME });
		run_all_modes((struct plan){ .verb = verb, .fill = FULL });
	}
	run((struct plan){ .verb = RECV, .fill = SOME, .object_size = 64 });
}

Test(kill_step, a_killed_receiver_while_the_sender_sleeps)
{
	for (enum verb verb = RECV; verb <= RECV_LONG; verb++) {
		enum fill fill = verb == RECV_LONG ? EMPTY : FULL;

		run_all_modes((struct plan){ .verb = verb, .fill = fill, .peer = ON_FUTEX });
		run_all_modes((struct plan){ .verb = verb, .fill = fill, .peer = ON_SOCKET });
	}
}

Test(kill_step, a_killed_receiver_that_waits_for_a_message)
{
	for (int i = 0; i < 2; i++) {
		for (enum verb verb = RECV; verb <= RECV_LONG; verb++) {
			struct plan plan = { .verb = verb, .peer = BUSY, .delay_ms = 3, .flags = modes[i] };

			run(plan);
			plan.last = true;
			run(plan);
		}
		run((struct plan){ .verb = RECV, .peer = BUSY, .delay_ms = 150, .flags = modes[i] });
	}
}

Test(kill_step, a_killed_co_owner_while_another_uses_the_same_end)
{
	for (enum verb verb = SEND; verb <= RECV_LONG; verb++) {
		struct plan plan = { .verb = verb, .peer = BUSY, .crowd = true, .flags = BUFPIPE_SHARED };

		if (verb == SHUTDOWN_SENDER || verb == CLOSE_SENDER)
			continue;
		run(plan);
		plan.delay_ms = 40;
		run(plan);
	}
}

Test(kill_step, a_killed_shutdown_or_close)
{
	static const enum verb verbs[] = { SHUTDOWN_SENDER, CLOSE_SENDER, SHUTDOWN_RECEIVER, CLOSE_RECEIVER };

	for (int i = 0; i < 4; i++) {
		run_all_modes((struct plan){ .verb = verbs[i], .fill = SOME });
		run_all_modes((struct plan){ .verb = verbs[i], .fill = FULL, .peer = STOPPED });
	}
	for (int i = 0; i < 2; i++) {
		run_all_modes((struct plan){ .verb = verbs[i], .peer = ON_FUTEX });
		run_all_modes((struct plan){ .verb = verbs[i + 2], .fill = FULL, .peer = ON_FUTEX });
	}
}
