/* SPDX-License-Identifier: MIT */
#include "table.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int table_begin(struct table *t, const struct column *columns, unsigned n, size_t rows)
{
	*t = (struct table){ .columns = columns, .n = n, .rows = rows };
	t->cells = calloc(rows * n + 1, sizeof(*t->cells));
	return t->cells ? 0 : -ENOMEM;
}

void table_end(struct table *t)
{
	free(t->cells);
}

char *table_cell(const struct table *t, size_t row, unsigned column)
{
	return t->cells[row * t->n + column];
}

static unsigned larger(unsigned a, size_t b)
{
	return a > b ? a : (unsigned)b;
}

/* What the lines take; a column of width 0 is left out. */
static unsigned total(const unsigned *widths, unsigned n)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += widths[i] ? widths[i] + (sum > 0) : 0;
	return sum;
}

/* The column with the highest rank of those that are still there; n if all that are must stay. */
static unsigned least_wanted(const struct table *t, const unsigned *widths)
{
	unsigned found = t->n;

	for (unsigned i = 0; i < t->n; i++) {
		if (widths[i] && t->columns[i].rank &&
		    (found == t->n || t->columns[i].rank > t->columns[found].rank))
			found = i;
	}
	return found;
}

/* The column that exceeds its least width by the most; n if none does. */
static unsigned widest(const struct table *t, const unsigned *widths)
{
	unsigned found = t->n;
	unsigned most = 0;

	for (unsigned i = 0; i < t->n; i++) {
		if (widths[i] && widths[i] - t->columns[i].least > most) {
			most = widths[i] - t->columns[i].least;
			found = i;
		}
	}
	return found;
}

static void choose_widths(const struct table *t, unsigned *widths, unsigned width)
{
	unsigned i;

	/* Which columns fit when each is as narrow as it can be? */
	for (i = 0; i < t->n; i++)
		widths[i] = t->columns[i].least;
	while (total(widths, t->n) > width && (i = least_wanted(t, widths)) < t->n)
		widths[i] = 0;
	/* These get what they want, and then give back what is too much. */
	for (i = 0; i < t->n; i++) {
		for (size_t row = 0; widths[i] && row < t->rows; row++)
			widths[i] = larger(widths[i], strlen(table_cell(t, row, i)));
	}
	while (total(widths, t->n) > width && (i = widest(t, widths)) < t->n)
		widths[i]--;
}

/* The first characters of text; but a number of others at its end, as in "812 shop+3", stays whole. */
static void cut(char to[CELL], const char *text, unsigned width)
{
	const char *end = strrchr(text, '+');
	unsigned len = (unsigned)strlen(text);
	unsigned tail = 0;

	if (end && end[1] && strspn(end + 1, "0123456789") == strlen(end + 1))
		tail = (unsigned)strlen(end);
	if (len <= width)
		snprintf(to, CELL, "%s", text);
	else if (tail < width)
		snprintf(to, CELL, "%.*s%s", (int)(width - tail), text, end ? end + strlen(end) - tail : "");
	else
		snprintf(to, CELL, "%.*s", (int)width, text);
}

static void print_cell(FILE *file, const struct column *column, const char *text, unsigned width, bool first,
		       bool last)
{
	char short_text[CELL];

	if (!width)
		return;
	cut(short_text, text, width);
	fprintf(file, "%s%*s", first ? "" : " ",
		column->right ? (int)width
		: last        ? 0
			      : -(int)width,
		short_text);
}

void table_print(FILE *file, const struct table *t, unsigned width)
{
	unsigned widths[COLUMNS_MAX];

	choose_widths(t, widths, width);
	for (size_t line = 0; line <= t->rows; line++) {
		for (unsigned i = 0; i < t->n; i++)
			print_cell(file, &t->columns[i],
				   line ? table_cell(t, line - 1, i) : t->columns[i].title, widths[i], i == 0,
				   i + 1 == t->n);
		fputc('\n', file);
	}
}

unsigned output_width(void)
{
	const char *columns = getenv("COLUMNS");
	long number = columns ? strtol(columns, NULL, 10) : 0;
	struct winsize size;

	if (isatty(STDOUT_FILENO))
		return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
	return number > 0 && number < INT_MAX ? (unsigned)number : UINT_MAX;
}
