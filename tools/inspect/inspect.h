/* SPDX-License-Identifier: MIT */
/*
 * What list, show and top have in common: the pipes of this machine, as /proc
 * shows them.  Nothing is attached, stopped or written.  The regions are opened
 * read-only and read by pread, and nothing in them is trusted: impossible numbers
 * are bounded, and two regions are one pipe only if each names the other.
 */
#ifndef INSPECT_H
#define INSPECT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "../common.h"
#include "memory/layout.h"

/* A process that holds at least one region. */
struct process {
	pid_t pid;
	char state; /* as in /proc/PID/stat */
	char command[17];
};

/* A process holds a region. If it may write to the region, it holds the end that the region belongs to. */
struct hold {
	const struct process *process;
	bool writes;
	struct hold *next;
};

struct region_view {
	dev_t dev;
	ino_t inode;
	bool ours;  /* it has our magic, a version that we know, and possible sizes */
	bool other; /* it has only our magic; then version is that of its layout */
	uint32_t version;
	struct hold *holds;
	struct region_view *next_in_bucket;
	struct control control; /* a copy, if it is ours */
};

#define BUCKETS 4096

struct scan {
	dev_t memory; /* the file system of memory files */
	struct region_view **regions;
	size_t n;
	struct region_view *buckets[BUCKETS];
	struct process **processes;
	size_t n_processes;
	unsigned unseen;     /* processes that may hold pipes, but that we may not look at */
	unsigned unreadable; /* memfds that we may not open */
	int64_t when;        /* CLOCK_MONOTONIC */
};

/* 0, or a negative errno when /proc itself cannot be read. */
int scan_pipes(struct scan **scan);
void scan_free(struct scan *scan);

/* One side of a ring. */
struct side {
	const struct region_view *region; /* NULL: it cannot be seen */
	const struct process *first;      /* a process that holds this end, or NULL */
	unsigned holders;
	bool stopped; /* all of them are */
	bool sleeps;  /* its flags say that it waits */
	uint64_t messages;
	uint64_t bytes;
	uint64_t waits;
	uint64_t refusals;
	uint64_t sleeps_done;
	uint64_t slept;
	uint64_t wakeups;
	int64_t asleep; /* nanoseconds; 0: no call sleeps */
};

enum state {
	STATE_FLOWS,
	STATE_EMPTY, /* the receiver waits */
	STATE_FULL,  /* the sender waits */
	STATE_SENDER_STOPPED,
	STATE_RECEIVER_STOPPED,
	STATE_SENDER_GONE,
	STATE_RECEIVER_GONE,
	STATE_UNSEEN, /* one side is held by processes that we may not look at, or by none */
};

/* What a ring did between two looks. */
struct rates {
	uint64_t messages; /* a second */
	uint64_t bytes;
	unsigned sender_waits; /* per cent of the time asleep */
	unsigned receiver_waits;
};

/* A ring: what one end sends and the other receives.  A duplex pipe is two of them. */
struct ring_view {
	struct side sender;
	struct side receiver;
	const char *name; /* that of the sending end, or of the other where that has none */
	bool is_static;
	bool duplex;
	bool shared;
	uint64_t size;
	uint64_t used;
	uint64_t messages;
	uint64_t high_water;
	enum state state;
	int64_t since; /* for how long, in nanoseconds; 0: not known */
	bool stuck;
	struct rates rates; /* filled in by sample_compare */
};

struct rings {
	struct ring_view *list;
	size_t n;
	bool known; /* a ring passes the filter, stuck or not */
};

/* Which rings are shown, and when one is stuck. */
struct filter {
	const char *name;    /* of the one end or the other; NULL: any */
	pid_t pid;           /* 0: any */
	ino_t inode;         /* 0: any */
	bool stuck;          /* only rings that are stuck */
	int64_t patience_ns; /* full for so long is stuck */
};

/* 0, or -ENOMEM.  The rings point into the scan.  In no order. */
int rings_find(struct rings *rings, const struct scan *scan, const struct filter *filter);
void rings_free(struct rings *rings);

/* One look at the machine. */
struct sample {
	struct scan *scan; /* NULL: none */
	struct rings rings;
};

/* As the keys of top call them. */
enum order { BY_PIPE = 'p', BY_NAME = 'n', BY_FILL = 'f', BY_RATE = 'r', BY_SINCE = 's' };

/* 0 or a negative errno; then the sample is empty. */
int sample_take(struct sample *sample, const struct filter *filter);
/* The same, with the rates over this time, for which it sleeps. */
int sample_measure(struct sample *sample, const struct filter *filter, int64_t ns);
void sample_drop(struct sample *sample);
/* Fills in the rates since an earlier sample; both are in the order of pipes then. */
void sample_compare(struct sample *now, struct sample *before);
#define NO_ORDER "--sort: '%s' is not one of pipe, name, fill, rate and time"
/* False if the word is not an order. */
bool parse_order(enum order *order, const char *word);
/* Reads a number of seconds, which may have a fraction; false if it is not a number, or more than 'most' seconds. */
bool parse_seconds(int64_t *ns, const char *text, double most);
/* The same for a time over which rates are measured: false also for less than 0.01 seconds, which say little. */
bool parse_interval(int64_t *ns, const char *text);
#define NO_INTERVAL "%s: '%s' is not a number of seconds from 0.01 to 1000000"
/* False if text is not a pid. */
bool parse_pid(pid_t *pid, const char *text);
/* The largest rate, fill or time first. */
void sample_sort(struct sample *sample, enum order order);

/* Writes the state in a word or two, such as "full 12s"; the most important one comes first. */
void state_text(char *text, size_t size, const struct ring_view *ring);
/* Writes the state as a sentence. */
void print_verdict(FILE *file, const struct ring_view *ring);

/* Prints on stderr how much of the machine could not be seen. */
void complain_unseen(const struct scan *scan);
/* Prints that no pipe of this name or process can be seen. Returns STATUS_NONE. */
int complain_none(const struct filter *filter);

/* Copies text that a stranger wrote. Everything but printable ASCII becomes a question mark. */
void clean_text(char *to, size_t size, const char *from, size_t len);
void print_json_string(FILE *file, const char *text);
/* What the word for so many things ends in: "" if there is one, and "s" or "es" otherwise. */
const char *plural_s(uint64_t number);
const char *plural_es(uint64_t number);
/* At most 5 characters, as "1.2M"; powers of 1000. */
void short_number(char text[8], uint64_t number);
/* At most 4 or 5 characters, as "12s", "3m", "2h". */
void short_time(char text[8], int64_t ns);
/* "812 worker+2". */
void side_text(char *text, size_t size, const struct side *side);
unsigned percent(uint64_t part, uint64_t whole);
void bar_text(char *text, unsigned width, unsigned percent);

/* The columns that list, list --rate and top show. */
enum view { VIEW_LIST, VIEW_RATES, VIEW_TOP };

/* A table of at most 'most' rings, as wide as standard output.  0 or -ENOMEM. */
int print_rings(FILE *file, const struct rings *rings, enum view view, size_t most);

/* with_rates: those of sample_compare, too. */
void print_json(FILE *file, const struct sample *sample, bool with_rates);

#endif
