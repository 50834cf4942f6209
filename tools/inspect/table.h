/* SPDX-License-Identifier: MIT */
/* A table of text that becomes as narrow as the terminal is. */
#ifndef TABLE_H
#define TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define CELL        256 /* the longest name fits */
#define COLUMNS_MAX 16

struct column {
	const char *title;
	unsigned least; /* it is never narrower, and wider only as far as its text is */
	bool right;
	/* Where there is no room for all, the columns with the highest rank are left out.  0 always stays. */
	unsigned rank;
};

struct table {
	const struct column *columns;
	unsigned n; /* columns */
	size_t rows;
	char (*cells)[CELL]; /* row by row */
};

/* All cells are empty.  0 or -ENOMEM. */
int table_begin(struct table *table, const struct column *columns, unsigned n, size_t rows);
void table_end(struct table *table);
/* To be written, with CELL bytes. */
char *table_cell(const struct table *table, size_t row, unsigned column);
/* Writes the titles, and a line for each row; no line is longer than width. */
void table_print(FILE *file, const struct table *table, unsigned width);

/* How many characters a line of standard output may have: UINT_MAX if it is not a terminal and COLUMNS is not set. */
unsigned output_width(void);

#endif
