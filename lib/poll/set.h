/* SPDX-License-Identifier: MIT */
/*
 * The inside of a set, shared by set.c, set_wait.c and the two sleepers: set_uring.c
 * and set_epoll.c.
 *
 * Each entry is hot or asleep.  An entry is hot if it was ready lately or is new;
 * each call looks at all hot entries.  If none of them is ready, all are put to
 * sleep: their flags are raised, one membarrier orders all flags, each entry is
 * looked at once more, and the kernel is asked to watch it.  An entry that fires
 * becomes hot again.  If there are many hot entries, those that were not ready for
 * long are put to sleep even while others are ready.  So the cost of a call depends
 * on the busy entries, not on the number of entries.
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
	uint32_t generation; /* of the slot: tells answers for an earlier entry in the same slot */
	unsigned events;
	unsigned fired;  /* plain descriptor: events from the kernel that are not reported yet */
	bool doubtful;   /* fired may be out of date: ask the kernel again before reporting it */
	unsigned misses; /* how many looks found nothing since it was last ready */
	int64_t spin_ns; /* as in bufpipe_options */
	bool hung_up;
	unsigned watched; /* io_uring: the events whose futex the kernel watches */
	bool polled;      /* io_uring: whether the kernel watches the descriptor */
	uint32_t tokens[2];
	uint32_t ticket; /* io_uring: tells answers to earlier requests */
	void *user;
};

struct sleeper;

/* The longest sleep while not all sleeping entries may be watched.  As in sync/wait.c. */
#define BLIND_SLEEP 4000000ll

struct bufpipe_set {
	pthread_mutex_t lock;     /* not held while asleep */
	_Atomic uint32_t wanting; /* how many threads want to change the set */
	bool waiting;             /* a thread is in bufpipe_set_wait */
	uint32_t owner;           /* the process that made it, by thread_process */
	const struct sleeper *sleeper;
	void *inside; /* private to the sleeper */
	int poke;     /* an eventfd that wakes the sleeping thread */
	bool asleep;
	bool pollable; /* bufpipe_set_fd is in use, so a try that finds nothing leaves all entries asleep */
	struct entry *hot;          /* the circle of hot entries; the next look begins here */
	unsigned hot_count;         /* the number of hot entries */
	unsigned hot_fds;           /* the number of plain descriptors among them */
	struct wait pace;           /* used only for how long our waits took lately */
	struct waiter_state waiter; /* used only for the CPU in pace */
	struct entry **slots;
	uint32_t *generations;
	uint32_t slot_count;
	uint32_t next_free;   /* no slot below it is free */
	struct entry **by_fd; /* plain descriptors */
	unsigned by_fd_count;
	int64_t round_due; /* when all pipes must be looked at, hot or asleep */
	uint32_t round;    /* the slot at which this goes on, because it may take several calls */
};

/* How a set sleeps.  All functions are called with the lock held. */
struct sleeper {
	uint32_t mode; /* WAITER_MANY: we sleep on the futexes; WAITER_FD: on the sockets */
	int (*open)(struct bufpipe_set *set);
	void (*close)(struct bufpipe_set *set);
	int (*join)(struct bufpipe_set *set, struct entry *entry);
	void (*leave)(struct bufpipe_set *set, struct entry *entry);
	/* Called when this thread is going to wait. */
	void (*begin)(struct bufpipe_set *set);
	/* Called before the flags of an entry are raised. */
	void (*prepare)(struct entry *entry);
	/* Called after the last look at an entry: asks the kernel to watch it. */
	int (*watch)(struct bufpipe_set *set, struct entry *entry);
	/* Passes on what has fired.  Unless until is TIME_TRY, first sleeps for it, without the lock. */
	int (*sleep)(struct bufpipe_set *set, int64_t until);
	int (*fd)(const struct bufpipe_set *set); /* the descriptor for bufpipe_set_fd; NULL: there is none */
	/* In a spin: whether sleep with TIME_TRY may have something to pass on.  turn counts the looks. */
	bool (*fired)(const struct bufpipe_set *set, unsigned turn);
};

extern const struct sleeper sleep_on_epoll;
extern const struct sleeper sleep_on_uring;

/*
 * With the lock: called when io_uring is refused from now on, for example by a
 * sandbox.  The set goes on with epoll.  0: look at all pipes again; or a negative
 * errno.
 */
int set_fall_back(struct bufpipe_set *set);

/* Takes the lock; -EINVAL in a child that inherited the set. */
int set_enter(struct bufpipe_set *set);

bool set_is_ours(const struct bufpipe_set *set);

/* The entry that an answer is for, or NULL. */
struct entry *set_find(const struct bufpipe_set *set, uint32_t slot, uint32_t generation);

/* Makes an entry hot. */
void set_heat(struct bufpipe_set *set, struct entry *entry);

/* Makes the next look at all pipes come soon enough for a pipe that has just joined. */
void set_hasten_round(struct bufpipe_set *set);

/*
 * Sleeps without the lock until a descriptor is readable.  Results as ppoll.  The
 * kernel continues ppoll after SIGSTOP and SIGCONT, and after work of io_uring that
 * is not a signal; other calls would fail with EINTR.  A thread that is cancelled
 * here leaves the set as if its wait had ended.
 */
int set_sleep_on(struct bufpipe_set *set, int fd, int64_t until);

/* Takes an entry out of the circle of hot entries. */
void set_cool(struct bufpipe_set *set, struct entry *entry);

/* Notes the events that the kernel has just reported for a plain descriptor. */
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
