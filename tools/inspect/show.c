/* SPDX-License-Identifier: MIT */
/* bufpipe show: all that can be known of one pipe. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"

static void print_holders(const struct side *side)
{
	unsigned shown = 0;

	for (const struct hold *h = side->region ? side->region->holds : NULL; h; h = h->next) {
		if (!h->writes)
			continue;
		printf("%s%d (%s%s)", shown++ ? ", " : "", (int)h->process->pid, h->process->command,
		       h->process->state == 'T' || h->process->state == 't' ? ", stopped" : "");
	}
	puts(shown ? "" : "none that can be seen");
}

static void print_side(const char *name, const struct side *side)
{
	printf("  %s\n    held by    ", name);
	print_holders(side);
	if (!side->region)
		return;
	printf("    region     inode %ju\n", (uintmax_t)side->region->inode);
	printf("    messages   %" PRIu64 ", %" PRIu64 " bytes\n", side->messages, side->bytes);
	printf("    waits      %" PRIu64 ", and %" PRIu64 " tries refused\n", side->waits, side->refusals);
	printf("    sleeps     %" PRIu64 ", %.3f s in all", side->sleeps_done, (double)side->slept / 1e9);
	if (side->asleep)
		printf("; asleep for %.1f s", (double)side->asleep / 1e9);
	else if (side->sleeps)
		printf("; waits, with others or in a loop");
	printf("\n    wake-ups   %" PRIu64 " of the other side\n", side->wakeups);
}

static void show_ring(const struct ring_view *r)
{
	char name[LAYOUT_NAME];

	clean_text(name, sizeof(name), r->name, sizeof(name));
	printf("pipe %ju '%s': %s, %s%s, layout %u\n", (uintmax_t)r->sender.region->inode, name,
	       r->is_static ? "static" : "generic", r->duplex ? "duplex" : "one-way",
	       r->shared ? ", shared" : "", r->sender.region->version);
	fputs("  verdict      ", stdout);
	print_verdict(stdout, r);
	printf("  fill         %" PRIu64 " of %" PRIu64 " bytes, %u%%; %" PRIu64
	       " message%s; at most %" PRIu64 " seen\n",
	       r->used, r->size, percent(r->used, r->size), r->messages, plural_s(r->messages),
	       r->high_water);
	if (r->is_static)
		printf("  objects      of %" PRIu64 " bytes\n",
		       r->sender.region->control.identity.object_size);
	print_side("sender", &r->sender);
	print_side("receiver", &r->receiver);
}

static int show(const struct scan *scan, const char *what)
{
	struct filter filters[3] = { { 0 }, { 0 }, { .name = what } };
	bool number = *what && strspn(what, "0123456789") == strlen(what);
	struct rings rings;

	if (number) {
		filters[0].inode = strtoul(what, NULL, 10);
		filters[1].pid = (pid_t)atoi(what);
	}
	/* A number is a pipe, or else a process, or else a name. */
	for (int i = number ? 0 : 2; i < 3; i++) {
		filters[i].patience_ns = 10000000000ll;
		if (rings_find(&rings, scan, &filters[i]) < 0)
			return -ENOMEM;
		for (size_t n = 0; n < rings.n; n++) {
			if (n)
				putchar('\n');
			show_ring(&rings.list[n]);
		}
		rings_free(&rings);
		if (rings.n)
			return 0;
	}
	return -ENOENT;
}

static int run(int argc, char **argv)
{
	struct scan *scan;
	int status;
	int r;

	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return print(command_show.help);
	if (argc != 2 || argv[1][0] == '-')
		return complain_usage(&command_show, "show takes a process, a name or a pipe's number");
	r = scan_pipes(&scan);
	if (r < 0) {
		complain("/proc: %s", strerror(-r));
		return STATUS_FAILED;
	}
	r = show(scan, argv[1]);
	status = print("");
	if (r == -ENOENT)
		complain("no pipe with this number, process or name can be seen: %s", argv[1]);
	else if (r < 0)
		complain("%s", strerror(-r));
	complain_unseen(scan);
	scan_free(scan);
	if (r == -ENOENT && !status)
		return STATUS_NONE;
	return r < 0 ? STATUS_FAILED : status;
}

const struct command command_show = {
	.name = "show",
	.summary = "show all that can be known of a pipe",
	.help = "usage: bufpipe show PID|NAME|PIPE\n"
		"\n"
		"Shows both sides of the pipes that a process holds, of those of a name, or of the\n"
		"pipe of this number in 'bufpipe list', and says in words what they wait for.\n"
		"Status 8 if there is none.\n",
	.run = run,
};
