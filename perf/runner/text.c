/* SPDX-License-Identifier: MIT */
#include "bench.h"

#include <string.h>

char *text_size(char buf[TEXT_MAX], size_t size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB" };
	int unit = 0;

	while (unit < 3 && size >= 1024 && size % 1024 == 0) {
		size /= 1024;
		unit++;
	}
	snprintf(buf, TEXT_MAX, "%zu %s", size, units[unit]);
	return buf;
}

/* Three significant digits, so that columns of unlike figures stay readable. */
static char *three_digits(char buf[TEXT_MAX], double value, const char *unit)
{
	int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;

	snprintf(buf, TEXT_MAX, "%.*f%s", decimals, value, unit);
	return buf;
}

char *text_time(char buf[TEXT_MAX], double ns)
{
	if (ns < 999.5)
		return three_digits(buf, ns, " ns");
	if (ns < 999.5e3)
		return three_digits(buf, ns / 1e3, " us");
	if (ns < 999.5e6)
		return three_digits(buf, ns / 1e6, " ms");
	return three_digits(buf, ns / 1e9, " s");
}

char *text_count(char buf[TEXT_MAX], double count)
{
	if (count < 999.5)
		return three_digits(buf, count, "");
	if (count < 999.5e3)
		return three_digits(buf, count / 1e3, " k");
	if (count < 999.5e6)
		return three_digits(buf, count / 1e6, " M");
	return three_digits(buf, count / 1e9, " G");
}

/* "12.3 (11.9 - 12.8)", or nothing. */
char *text_spread(char buf[SPREAD_MAX], struct spread spread)
{
	int decimals = spread.median < 9.995 ? 2 : 1;

	buf[0] = '\0';
	if (spread.count)
		snprintf(buf, SPREAD_MAX, "%.*f (%.*f - %.*f)", decimals, spread.median, decimals, spread.min,
			 decimals, spread.max);
	return buf;
}

static const struct {
	const char *name;
	const char *about;
} priorities[PRIORITIES] = {
	{ "normal", "normal priorities" },
	{ "fifo-lead", "the lead or the senders SCHED_FIFO" },
	{ "fifo-echo", "the echo or the receivers SCHED_FIFO" },
	{ "fifo-both", "both sides SCHED_FIFO" },
	{ "nice-lead", "the lead or the senders at nice 19" },
	{ "nice-echo", "the echo or the receivers at nice 19" },
};

char *text_condition(char buf[CONDITION_MAX], const struct condition *condition)
{
	int n = 0;

	buf[0] = '\0';
	if (condition->busy)
		n = snprintf(buf, CONDITION_MAX, "%d busy program%s on each CPU", condition->busy,
			     condition->busy == 1 ? "" : "s");
	if (condition->throttle)
		snprintf(buf + n, CONDITION_MAX - (size_t)n, "%sthrottled to %d %% of a CPU", n ? ", " : "",
			 condition->throttle);
	if (condition->priority) {
		n = (int)strlen(buf);
		snprintf(buf + n, CONDITION_MAX - (size_t)n, "%s%s", n ? ", " : "",
			 priorities[condition->priority].about);
	}
	return buf;
}

const char *priority_name(enum priority priority)
{
	return priorities[priority].name;
}

const char *mode_name(enum mode mode)
{
	static const char *const names[] = {
		"trip",  "stream",  "asleep",  "idle",     "rate",     "many",
		"pairs", "set-one", "set-any", "set-wake", "set-busy", "set-idle"
	};

	return names[mode];
}

const char *placement_name(enum placement placement)
{
	return placement == TWO_CORES ? "two" : "one";
}

char *text_job(char buf[JOB_MAX], const struct job *job)
{
	char size[TEXT_MAX], count[TEXT_MAX] = "";

	if (is_crowd(job->mode))
		snprintf(count, sizeof(count), "%d to %d, ", job->senders, job->receivers);
	else if (job->shape.pipes)
		snprintf(count, sizeof(count), "%u pipes, ", job->shape.pipes);
	else if (job->rate)
		snprintf(count, sizeof(count), "%d messages/s, ", job->rate);
	snprintf(buf, JOB_MAX, "%s, %s, %s%s, %s", job->transport->name, mode_name(job->mode), count,
		 text_size(size, job->shape.len), job->placement == TWO_CORES ? "two cores" : "one core");
	return buf;
}
