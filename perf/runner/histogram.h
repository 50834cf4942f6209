/* SPDX-License-Identifier: MIT */
/*
 * Times in nanoseconds, counted in buckets: 64 for each power of two, so that a
 * bucket is at most 1.6 % wide, from one nanosecond to eighteen minutes.  Adding
 * a time is a few instructions and takes no memory, so nothing has to be left
 * out of a distribution however many messages there are.
 */
#ifndef PERF_HISTOGRAM_H
#define PERF_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS    6
#define HISTOGRAM_TOP     40 /* times of 2^40 ns and more share the last bucket */
#define HISTOGRAM_PARTS   (1 << HISTOGRAM_BITS)
#define HISTOGRAM_BUCKETS ((HISTOGRAM_TOP - HISTOGRAM_BITS + 1) * HISTOGRAM_PARTS)

struct histogram {
	uint64_t count;
	uint64_t max;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline void histogram_add(struct histogram *histogram, uint64_t ns)
{
	unsigned shift = 0, which;

	if (ns >= HISTOGRAM_PARTS)
		shift = 63 - HISTOGRAM_BITS - (unsigned)__builtin_clzll(ns);
	which = shift * HISTOGRAM_PARTS + (unsigned)(ns >> shift);
	if (which >= HISTOGRAM_BUCKETS)
		which = HISTOGRAM_BUCKETS - 1;
	histogram->buckets[which]++;
	histogram->count++;
	if (ns > histogram->max)
		histogram->max = ns;
}

/* The first time that is too long for this bucket. */
uint64_t histogram_end(unsigned bucket);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The time that this part of all, from 0 to 1, did not exceed; exact to the width of a bucket. */
double histogram_quantile(const struct histogram *histogram, double part);

/* The quantiles that are reported, in the order of enum latency. */
enum latency { LATENCY_P50, LATENCY_P90, LATENCY_P99, LATENCY_P999, LATENCY_MAX, LATENCIES };
void histogram_latencies(const struct histogram *histogram, double latency[LATENCIES]);

#endif
