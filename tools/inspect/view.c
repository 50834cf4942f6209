/* SPDX-License-Identifier: MIT */
/* The contents of the lines of list and top. */
#include <errno.h>
#include <string.h>

#include "inspect.h"
#include "table.h"

enum field {
	PIPE,
	NAME,
	KIND,
	SENDER,
	RECEIVER,
	SIZE,
	USED,
	FILL,
	BAR,
	MSGS,
	BYTES,
	MSG_RATE,
	RATE,
	SW,
	RW,
	STATE,
	FIELDS
};

/* What stays fits into 80 columns. */
static const struct column columns[FIELDS] = {
	[PIPE] = { "PIPE", 8, .right = true },
	[NAME] = { "NAME", 7, .right = false },
	[KIND] = { "KIND", 7, .rank = 3 },
	[SENDER] = { "SENDER", 11, .right = false },
	[RECEIVER] = { "RECEIVER", 11, .right = false },
	[SIZE] = { "SIZE", 5, .right = true, .rank = 4 },
	[USED] = { "USED", 5, .right = true, .rank = 2 },
	[FILL] = { "FILL", 4, .right = true },
	[BAR] = { "", 3, .rank = 1 },
	[MSGS] = { "MSGS", 5, .right = true },
	[BYTES] = { "BYTES", 5, .right = true, .rank = 1 },
	[MSG_RATE] = { "MSG/S", 5, .right = true },
	[RATE] = { "B/S", 5, .right = true },
	[SW] = { "SW", 4, .right = true },
	[RW] = { "RW", 4, .right = true },
	[STATE] = { "STATE", 12, .right = false },
};

static const enum field list_view[] = { PIPE, NAME, KIND, SENDER, RECEIVER, SIZE,
					USED, FILL, BAR,  MSGS,   BYTES,    STATE };
static const enum field rate_view[] = { PIPE, NAME, KIND, SENDER,   RECEIVER, SIZE,
					USED, FILL, BAR,  MSG_RATE, RATE,     STATE };
static const enum field top_view[] = { PIPE, NAME,     KIND, SENDER, RECEIVER, SIZE, USED,
				       FILL, MSG_RATE, RATE, SW,     RW,       STATE };

static const struct {
	const enum field *fields;
	unsigned n;
} views[] = {
	[VIEW_LIST] = { list_view, sizeof(list_view) / sizeof(*list_view) },
	[VIEW_RATES] = { rate_view, sizeof(rate_view) / sizeof(*rate_view) },
	[VIEW_TOP] = { top_view, sizeof(top_view) / sizeof(*top_view) },
};

static void share_text(char *text, unsigned share)
{
	snprintf(text, CELL, "%u%%", share);
}

static void fill_cell(char *text, enum field field, const struct ring_view *r)
{
	switch (field) {
	case PIPE:
		snprintf(text, CELL, "%ju", (uintmax_t)r->sender.region->inode);
		break;
	case NAME:
		clean_text(text, CELL, r->name, LAYOUT_NAME);
		break;
	case KIND:
		strcpy(text, r->is_static ? "static" : "generic");
		break;
	case SENDER:
		side_text(text, CELL, &r->sender);
		break;
	case RECEIVER:
		side_text(text, CELL, &r->receiver);
		break;
	case SIZE:
		short_number(text, r->size);
		break;
	case USED:
		short_number(text, r->used);
		break;
	case FILL:
		share_text(text, percent(r->used, r->size));
		break;
	case BAR:
		bar_text(text, 3, percent(r->used, r->size));
		break;
	case MSGS:
		short_number(text, r->sender.messages);
		break;
	case BYTES:
		short_number(text, r->sender.bytes);
		break;
	case MSG_RATE:
		short_number(text, r->rates.messages);
		break;
	case RATE:
		short_number(text, r->rates.bytes);
		break;
	case SW:
		share_text(text, r->rates.sender_waits);
		break;
	case RW:
		share_text(text, r->rates.receiver_waits);
		break;
	case STATE:
		state_text(text, CELL, r);
		break;
	case FIELDS:
		break;
	}
}

int print_rings(FILE *file, const struct rings *rings, enum view view, size_t most)
{
	const enum field *fields = views[view].fields;
	struct column chosen[COLUMNS_MAX];
	unsigned n = views[view].n;
	struct table table;

	for (unsigned i = 0; i < n; i++)
		chosen[i] = columns[fields[i]];
	if (table_begin(&table, chosen, n, rings->n < most ? rings->n : most) < 0)
		return -ENOMEM;
	for (size_t row = 0; row < table.rows; row++) {
		for (unsigned i = 0; i < n; i++)
			fill_cell(table_cell(&table, row, i), fields[i], &rings->list[row]);
	}
	table_print(file, &table, output_width());
	table_end(&table);
	return 0;
}
