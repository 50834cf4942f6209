/* SPDX-License-Identifier: MIT */
/*
 * The inside of a set, shared by set.c, set_wait.c and the two ways in which it
 * can sleep.
 *
 * Each entry is hot or asleep.  A hot entry is looked at in each call: it was
 * ready lately, or is new.  When no hot entry is ready, all of them are put to
 * sleep: their flags are raised, one membarrier orders them all, each is looked
 * at once more, and the kernel is asked to watch it.  What fires becomes hot
 * again.  When there are many hot entries, those that were looked at in vain for
 * long are put to sleep even while others are ready.  So a call costs what the
 * busy entries cost, however many there are.
 */
#ifndef BUFPIPE_POLL_SET_H
#define BUFPIPE_POLL_SET_H

#include "poll/readiness.h"

#include <sys/epoll.h>

struct entry {
	struct entry *next; /* in the circle of hot entries; NULL when asleep */
	struct entry *previous;
	struct bufpipe_set *set;
	bufpipe_t *pipe; /* NULL for a plain descriptor */
	int fd;          /* the descriptor, or the socket of the pipe */
	uint32_t slot;
	uint32_t generation; /* of the slot: an answer to an earlier entry is not for us */
	unsigned events;
	unsigned fired;  /* what the kernel said of a plain descriptor, not yet reported, */
	bool doubtful;   /* and long enough ago to be asked again before it is */
	unsigned misses; /* looks in vain since it was last ready */
	int64_t spin_ns; /* as in bufpipe_options */
	bool hung_up;
	unsigned watched; /* io_uring: the events whose futex the kernel watches, */
	bool polled;      /* and whether it watches the descriptor */
	uint32_t tokens[2];
	uint32_t ticket; /* an answer to a request with an earlier one is not for us */
	void *user;
};

struct sleeper;

/* How long to sleep when what sleeps may not be watched: no shorter than a tick of the kernel, see wait.c. */
#define BLIND_SLEEP 4000000ll

struct bufpipe_set {
	pthread_mutex_t lock;     /* not held while asleep */
	_Atomic uint32_t wanting; /* how many threads want to change the set */
	bool waiting;             /* a thread is in bufpipe_set_wait */
	uint32_t owner;           /* the process that made it, by thread_process */
	const struct sleeper *sleeper;
	void *inside; /* the sleeper's own */
	int poke;     /* an eventfd: wakes the thread that sleeps */
	bool asleep;
	bool pollable; /* bufpipe_set_fd may be called: a try that finds nothing leaves all entries asleep */
	struct entry *hot;          /* where the next look begins */
	unsigned hot_count;         /* of these, */
	unsigned hot_fds;           /* and of plain descriptors among them */
	struct wait pace;           /* how long our own waits took lately; no more of it is in use, */
	struct waiter_state waiter; /* but that it needs a place for our CPU */
	struct entry **slots;
	uint32_t *generations;
	uint32_t slot_count;
	uint32_t next_free;   /* no slot below it is free */
	struct entry **by_fd; /* plain descriptors */
	unsigned by_fd_count;
	int64_t round_due; /* when the next look at all pipes is due, asleep or not, */
	uint32_t round;    /* and at which slot it goes on, as it may take several calls */
};

/* How a set sleeps.  All but poke are called with the lock held. */
struct sleeper {
	uint32_t mode; /* WAITER_MANY: we sleep on the futexes; WAITER_FD: on the sockets */
	int (*open)(struct bufpipe_set *set);
	void (*close)(struct bufpipe_set *set);
	int (*join)(struct bufpipe_set *set, struct entry *entry);
	void (*leave)(struct bufpipe_set *set, struct entry *entry);
	/* This thread is going to wait. */
	void (*begin)(struct bufpipe_set *set);
	/* Before the flags are raised. */
	void (*prepare)(struct entry *entry);
	/* After the last look: the kernel shall watch it. */
	int (*watch)(struct bufpipe_set *set, struct entry *entry);
	/* Passes on what has fired; sleeps for it until then, without the lock, unless that is TIME_TRY. */
	int (*sleep)(struct bufpipe_set *set, int64_t until);
	int (*fd)(const struct bufpipe_set *set); /* what bufpipe_set_fd gives out; NULL: nothing */
	/* In a spin: may a sleep with TIME_TRY have something to pass on?  turn counts up. */
	bool (*fired)(const struct bufpipe_set *set, unsigned turn);
};

extern const struct sleeper sleep_on_epoll;
extern const struct sleeper sleep_on_uring;

/*
 * io_uring is refused from now on, as when a sandbox has come: the set goes on
 * with epoll.  With the lock.  0: look at all pipes again; or a negative errno.
 */
int set_fall_back(struct bufpipe_set *set);

/* Takes the lock; -EINVAL in a child that inherited the set. */
int set_enter(struct bufpipe_set *set);

bool set_is_ours(const struct bufpipe_set *set);

/* The entry that an answer is for, or NULL. */
struct entry *set_find(const struct bufpipe_set *set, uint32_t slot, uint32_t generation);

/* Something fired. */
void set_heat(struct bufpipe_set *set, struct entry *entry);

/* A pipe has joined that needs to be looked at sooner than others. */
void set_hasten_round(struct bufpipe_set *set);

/*
 * Sleeps until this descriptor is readable, without the lock: as ppoll.  The kernel
 * goes on with ppoll after a stop, or after work of io_uring that is no signal; of
 * the other calls that sleep it would make -EINTR.  A thread that is cancelled here
 * leaves the set as if its wait had ended.
 */
int set_sleep_on(struct bufpipe_set *set, int fd, int64_t until);

/* Takes it out of the circle. */
void set_cool(struct bufpipe_set *set, struct entry *entry);

/* The kernel says so now. */
static inline void set_fired(struct entry *entry, unsigned revents)
{
	entry->fired = revents;
	entry->doubtful = false;
}

static inline bool poll_says_gone(unsigned revents)
{
	return revents & (EPOLLHUP | EPOLLRDHUP | EPOLLERR);
}

#endif
