/* SPDX-License-Identifier: MIT */
/* The schema is documented in bufpipe-list(1): what is there keeps its name and meaning. */
#include <inttypes.h>

#include "inspect.h"

#define SCHEMA 1

static void print_processes(FILE *file, const struct side *side)
{
	const char *comma = "";

	fputs("[", file);
	for (const struct hold *h = side->region ? side->region->holds : NULL; h; h = h->next) {
		if (!h->writes)
			continue;
		fprintf(file, "%s{\"pid\": %d, \"state\": \"%c\", \"command\": ", comma, (int)h->process->pid,
			h->process->state);
		print_json_string(file, h->process->command);
		fputs("}", file);
		comma = ", ";
	}
	fputs("]", file);
}

static void print_side(FILE *file, const char *name, const struct side *side)
{
	fprintf(file, "    \"%s\": {\n      \"inode\": ", name);
	if (side->region)
		fprintf(file, "%ju", (uintmax_t)side->region->inode);
	else
		fputs("null", file);
	fputs(", \"name\": ", file);
	print_json_string(file, side->region ? side->region->control.about.name : "");
	fputs(",\n      \"processes\": ", file);
	print_processes(file, side);
	fprintf(file,
		",\n      \"messages\": %" PRIu64 ", \"bytes\": %" PRIu64 ",\n"
		"      \"waits\": %" PRIu64 ", \"refusals\": %" PRIu64 ", \"wakeups\": %" PRIu64 ",\n"
		"      \"sleeps\": %" PRIu64 ", \"slept_ns\": %" PRIu64 ", \"asleep_ns\": %" PRId64 "\n    }",
		side->messages, side->bytes, side->waits, side->refusals, side->wakeups, side->sleeps_done,
		side->slept, side->asleep);
}

static const char *state_name(enum state state)
{
	static const char *const names[] = {
		[STATE_FLOWS] = "flows",
		[STATE_EMPTY] = "empty",
		[STATE_FULL] = "full",
		[STATE_SENDER_STOPPED] = "sender-stopped",
		[STATE_RECEIVER_STOPPED] = "receiver-stopped",
		[STATE_SENDER_GONE] = "sender-gone",
		[STATE_RECEIVER_GONE] = "receiver-gone",
		[STATE_UNSEEN] = "unseen",
	};

	return names[state];
}

static void print_ring(FILE *file, const struct ring_view *r, bool with_rates)
{
	fputs("  {\n    \"name\": ", file);
	print_json_string(file, r->name);
	fprintf(file,
		",\n    \"kind\": \"%s\", \"duplex\": %s, \"shared\": %s, \"layout\": %u,\n"
		"    \"size\": %" PRIu64 ", \"used\": %" PRIu64 ", \"messages\": %" PRIu64
		", \"high_water\": %" PRIu64 ",\n"
		"    \"state\": \"%s\", \"since_ns\": %" PRId64 ", \"stuck\": %s,\n",
		r->is_static ? "static" : "generic", r->duplex ? "true" : "false",
		r->shared ? "true" : "false", r->sender.region->version, r->size, r->used, r->messages,
		r->high_water, state_name(r->state), r->since, r->stuck ? "true" : "false");
	if (with_rates)
		fprintf(file,
			"    \"messages_per_second\": %" PRIu64 ", \"bytes_per_second\": %" PRIu64 ",\n",
			r->rates.messages, r->rates.bytes);
	print_side(file, "sender", &r->sender);
	fputs(",\n", file);
	print_side(file, "receiver", &r->receiver);
	fputs("\n  }", file);
}

void print_json(FILE *file, const struct sample *sample, bool with_rates)
{
	const struct scan *scan = sample->scan;
	const struct rings *rings = &sample->rings;
	unsigned others = 0;

	for (size_t i = 0; i < scan->n; i++)
		others += scan->regions[i]->other;
	fprintf(file,
		"{\n  \"schema\": %d,\n  \"unseen_processes\": %u,\n  \"unreadable_regions\": %u,\n"
		"  \"other_layouts\": %u,\n  \"rings\": [",
		SCHEMA, scan->unseen, scan->unreadable, others);
	for (size_t i = 0; i < rings->n; i++) {
		fputs(i ? ",\n" : "\n", file);
		print_ring(file, &rings->list[i], with_rates);
	}
	fputs("\n  ]\n}\n", file);
}
