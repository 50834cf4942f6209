/* SPDX-License-Identifier: MIT */
#include "report.h"
#include "port.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MINUTE_NS 60000000000LL

void complain_ratelimited(struct ratelimit *r, const struct line_config *line, const char *format, ...)
{
	char text[sizeof(r->last)];
	int64_t now = now_ns();
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (strcmp(text, r->last) == 0 && now - r->said_ns < MINUTE_NS)
		return;
	memcpy(r->last, text, sizeof(text));
	r->said_ns = now;
	complain("%s: %s", line->text, text);
}

void report_lane(const struct line_config *line, const char *direction, const struct state_counts *c)
{
	complain("%s: %s: %lu messages, %lu bytes, %lu lost, %lu repeated, %lu in doubt, %lu corrupt, %lu "
		 "retries",
		 line->text, direction, c->messages, c->bytes, c->lost, c->duplicates, c->doubts, c->corrupt,
		 c->retries);
}

uint64_t report_sum(const struct state_counts *c)
{
	return c->messages + c->lost + c->duplicates + c->doubts + c->corrupt + c->retries + c->ends;
}
