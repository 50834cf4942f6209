/* SPDX-License-Identifier: MIT */
#include "histogram.h"

uint64_t histogram_end(unsigned bucket)
{
	unsigned shift = bucket < 2 * HISTOGRAM_PARTS ? 0 : bucket / HISTOGRAM_PARTS - 1;

	return (uint64_t)(bucket - shift * HISTOGRAM_PARTS + 1) << shift;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
	into->count += from->count;
	if (from->max > into->max)
		into->max = from->max;
}

double histogram_quantile(const struct histogram *histogram, double part)
{
	uint64_t wanted = (uint64_t)((double)histogram->count * part), seen = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		uint64_t end = histogram_end(i);

		seen += histogram->buckets[i];
		if (seen > wanted || seen == histogram->count)
			return (double)(end < histogram->max ? end : histogram->max);
	}
	return 0;
}

void histogram_latencies(const struct histogram *histogram, double latency[LATENCIES])
{
	static const double parts[LATENCIES] = { 0.5, 0.9, 0.99, 0.999, 1 };

	for (int i = 0; i < LATENCIES; i++)
		latency[i] = histogram_quantile(histogram, parts[i]);
}
