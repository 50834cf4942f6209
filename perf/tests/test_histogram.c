/* SPDX-License-Identifier: MIT */
/* Every time falls into one bucket, which is at most 1.6 % wide. */
#include "../runner/histogram.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                        \
	do {                                                               \
		if (!(what)) {                                             \
			fprintf(stderr, "line %d: %s\n", __LINE__, #what); \
			exit(1);                                           \
		}                                                          \
	} while (0)

static void check_time(uint64_t ns)
{
	struct histogram *h = calloc(1, sizeof(*h));
	unsigned bucket = 0;
	uint64_t begin, end;

	CHECK(h);
	histogram_add(h, ns);
	while (!h->buckets[bucket])
		CHECK(++bucket < HISTOGRAM_BUCKETS);
	begin = bucket ? histogram_end(bucket - 1) : 0;
	end = histogram_end(bucket);
	CHECK(begin <= ns && ns < end);
	CHECK(end - begin == 1 || (double)(end - begin) <= 0.016 * (double)begin);
	CHECK(h->count == 1 && h->max == ns);
	CHECK(histogram_quantile(h, 0.5) == (double)ns);
	free(h);
}

static void check_quantiles(void)
{
	struct histogram *a = calloc(1, sizeof(*a)), *b = calloc(1, sizeof(*b));
	double latency[LATENCIES];

	CHECK(a && b);
	for (uint64_t ns = 1; ns <= 1000; ns++)
		histogram_add(ns % 2 ? a : b, ns * 1000);
	histogram_merge(a, b);
	CHECK(a->count == 1000 && a->max == 1000000);
	histogram_latencies(a, latency);
	CHECK(latency[LATENCY_P50] >= 500e3 && latency[LATENCY_P50] < 510e3);
	CHECK(latency[LATENCY_P90] >= 900e3 && latency[LATENCY_P90] < 918e3);
	CHECK(latency[LATENCY_P99] >= 990e3 && latency[LATENCY_P99] <= 1000e3);
	CHECK(latency[LATENCY_MAX] == 1000e3);
	free(a);
	free(b);
}

/* What is longer than the last bucket is counted there, and its length is known if it is the longest. */
static void check_longest(void)
{
	struct histogram *h = calloc(1, sizeof(*h));

	CHECK(h);
	histogram_add(h, UINT64_MAX / 2);
	CHECK(h->buckets[HISTOGRAM_BUCKETS - 1] == 1);
	CHECK(h->max == UINT64_MAX / 2);
	free(h);
}

int main(void)
{
	for (unsigned shift = 0; shift < HISTOGRAM_TOP; shift++) {
		uint64_t power = UINT64_C(1) << shift;

		check_time(power - 1);
		check_time(power);
		check_time(power + power / 3);
	}
	check_quantiles();
	check_longest();
	return 0;
}
