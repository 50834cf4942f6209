/* SPDX-License-Identifier: MIT */
/* What is made of the times that cache lines take, and of what a sender says of its own. */
#include "support.h"

#include "ahead.h"

SUITE(ahead);

/* The same times so often; afterwards what they come to: whether the lines are from afar, and clearing pays. */
static void judge(struct bell *bell, int times, int64_t asked, int64_t cleared, int64_t cached)
{
	while (times--)
		ahead_judge(bell, asked, cleared, cached);
}

static bool is_afar(const struct bell *bell)
{
	return atomic_load(&bell->afar) > 0;
}

static bool pays(const struct bell *bell)
{
	return atomic_load(&bell->clearing) > 0;
}

Test(ahead, lines_come_from_afar_if_clearing_them_is_slow)
{
	struct bell bell = { 0 };

	judge(&bell, 1, 10000, 301, 100);
	check(is_afar(&bell));
	bell = (struct bell){ 0 };
	judge(&bell, 1, 10000, 300, 100);
	check(!is_afar(&bell));
	check(!pays(&bell));
}

Test(ahead, clearing_pays_if_it_beats_asking_by_half)
{
	struct bell bell = { 0 };

	judge(&bell, 1, 801, 400, 100);
	check(is_afar(&bell) && pays(&bell));
	bell = (struct bell){ 0 };
	judge(&bell, 1, 800, 400, 100);
	check(is_afar(&bell) && !pays(&bell));
}

Test(ahead, one_wrong_measurement_changes_nothing_that_was_sure)
{
	const int64_t slow = 10000, quick = 1;
	struct bell bell = { 0 };

	judge(&bell, 100, slow, 400, 100);
	judge(&bell, 3, quick, 200, 100);
	check(is_afar(&bell) && pays(&bell));
	judge(&bell, 1, quick, 200, 100);
	check(!is_afar(&bell) && !pays(&bell));
	judge(&bell, 100, quick, 200, 100);
	judge(&bell, 4, slow, 400, 100);
	check(!is_afar(&bell) && !pays(&bell));
	judge(&bell, 1, slow, 400, 100);
	check(is_afar(&bell) && pays(&bell));
}

/* The words are the sender's own, but a co-owner of the end may have lost its mind. */
Test(ahead, votes_go_over_no_end)
{
	const int32_t ends[] = { INT32_MIN, INT32_MAX };

	for (int i = 0; i < 2; i++) {
		for (int64_t cleared = 200; cleared <= 400; cleared += 200) {
			struct bell bell = { .afar = ends[i], .clearing = ends[i] };

			judge(&bell, 2, 10000, cleared, 100);
			check_eq(is_afar(&bell), i);
			check_eq(pays(&bell), i);
		}
	}
}

Test(ahead, receiver_asks_where_the_sender_does)
{
	for (int32_t afar = -1; afar <= 1; afar++) {
		for (int32_t clearing = -1; clearing <= 1; clearing++) {
			const struct bell bell = { .afar = afar, .clearing = clearing };
			bool asks = afar > 0 && clearing <= 0;

			check_eq(ahead_asks_afar(&bell), asks);
			check_eq(ahead_fetches(&bell, 1024), asks);
			check(!ahead_fetches(&bell, 0));
			check(!ahead_fetches(&bell, AHEAD_FETCH_LEAST - 1));
			check_eq(ahead_fetches(&bell, AHEAD_FETCH_LEAST), asks);
			check_eq(ahead_fetches(&bell, AHEAD_FETCH_MOST), asks);
			check(!ahead_fetches(&bell, AHEAD_FETCH_MOST + 1));
			check(!ahead_fetches(&bell, UINT64_MAX));
		}
	}
}
