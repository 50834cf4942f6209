/* SPDX-License-Identifier: MIT */
/* Numbers, times and names in few characters. */
#include <stdlib.h>
#include <string.h>

#include "inspect.h"

void clean_text(char *to, size_t size, const char *from, size_t len)
{
	size_t n = 0;

	while (n < len && n + 1 < size && from[n]) {
		to[n] = from[n] >= ' ' && from[n] <= '~' ? from[n] : '?';
		n++;
	}
	to[n] = 0;
}

void print_json_string(FILE *file, const char *text)
{
	fputc('"', file);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', file);
		fputc(*text >= ' ' && *text <= '~' ? *text : '?', file);
	}
	fputc('"', file);
}

const char *plural_s(uint64_t number)
{
	return number == 1 ? "" : "s";
}

const char *plural_es(uint64_t number)
{
	return number == 1 ? "" : "es";
}

void short_number(char text[8], uint64_t number)
{
	static const char units[] = " KMGTPE";
	unsigned unit = 0;
	uint64_t rest = 0;

	while (number >= 1000) {
		rest = number % 1000;
		number /= 1000;
		unit++;
	}
	if (!unit)
		snprintf(text, 8, "%u", (unsigned)number);
	else if (number < 10)
		snprintf(text, 8, "%u.%u%c", (unsigned)number, (unsigned)(rest / 100), units[unit]);
	else
		snprintf(text, 8, "%u%c", (unsigned)number % 1000, units[unit]);
}

void short_time(char text[8], int64_t ns)
{
	uint64_t seconds = ns < 0 ? 0 : (uint64_t)ns / 1000000000u;

	if (seconds < 100)
		snprintf(text, 8, "%us", (unsigned)seconds);
	else if (seconds < 100ul * 60)
		snprintf(text, 8, "%um", (unsigned)(seconds / 60));
	else if (seconds < 100ul * 3600)
		snprintf(text, 8, "%uh", (unsigned)(seconds / 3600));
	else
		snprintf(text, 8, "%ud", (unsigned)(seconds / 86400) % 1000000);
}

void side_text(char *text, size_t size, const struct side *side)
{
	if (!side->first)
		snprintf(text, size, "-");
	else if (side->holders > 1)
		snprintf(text, size, "%d %s+%u", (int)side->first->pid, side->first->command,
			 side->holders - 1);
	else
		snprintf(text, size, "%d %s", (int)side->first->pid, side->first->command);
}

bool parse_seconds(int64_t *ns, const char *text, double most)
{
	char *end;
	double number = strtod(text, &end);

	if (*text < '0' || *text > '9' || *end || !(number >= 0 && number <= most))
		return false;
	*ns = (int64_t)(number * 1e9);
	return true;
}

bool parse_interval(int64_t *ns, const char *text)
{
	return parse_seconds(ns, text, 1e6) && *ns >= SECOND_NS / 100;
}

bool parse_pid(pid_t *pid, const char *text)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || number < 1 || number > INT32_MAX)
		return false;
	*pid = (pid_t)number;
	return true;
}

unsigned percent(uint64_t part, uint64_t whole)
{
	if (!whole || part >= whole)
		return whole && part ? 100 : 0;
	/* Both are below 2^43. */
	return (unsigned)(part * 100 / whole);
}

void bar_text(char *text, unsigned width, unsigned full)
{
	for (unsigned i = 0; i < width; i++)
		text[i] = full * width > i * 100 ? '#' : '.';
	text[width] = 0;
}
