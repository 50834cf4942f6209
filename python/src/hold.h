/* SPDX-License-Identifier: MIT */
/*
 * One end of the library, with counts of what uses it: handles, calls, and threads
 * that hold one of its locks.
 */
#ifndef BUFFERED_PIPE_HOLD_H
#define BUFFERED_PIPE_HOLD_H

#include "base.h"

#include <stdatomic.h>

/* A message of at most this many bytes is received without asking for its length first. */
#define SHORT ((size_t)4096)

/*
 * A lock of the library that a thread holds while it is inside a view or in the
 * middle of a long message.  Only that thread can release it.  The lock lies in the
 * memory of the pipe and is in a list of the thread, so this memory must stay mapped
 * until the lock is released.
 */
struct stay {
	struct hold *hold;
	enum direction direction;
	unsigned long thread;
	enum stay_state {
		STAY_OURS, /* it belongs to a view or a message, and its thread lives */
		STAY_LEFT, /* another thread dropped the view or the message; the thread must release the lock */
		STAY_GONE, /* the thread has ended, or does not exist in this forked child */
	} state;
	bool listed;
	struct stay *next;
	struct stay **at_me;
};

/* A message longer than the ring, of which a thread has received the beginning. */
struct part {
	PyObject *made; /* bytes or a bytearray, of 'room' bytes; NULL: 'data' is memory of the caller */
	char *data;
	size_t room;
	size_t have;
	size_t total;
	struct stay *stay;
	bool busy; /* a call is receiving it */
};

/*
 * An end as the library has it.  It is shared by the handles that fork() makes,
 * and closed when no handle and no call uses it any more.  Changed under the
 * GIL only.
 */
struct hold {
	bufpipe_t *pipe;
	unsigned handles; /* handles and open views */
	unsigned uses;    /* calls that may be without the GIL */
	unsigned process; /* in which the uses were counted: a forked child has no other threads */
	struct bufpipe_info info;
	/* Written under the lock of the stays: */
	unsigned stays; /* locks of this end that a thread still has */
	bool parked;    /* nothing else uses it: the last stay closes it */
	int fd;         /* of bufpipe_fd; -1: nobody asked for it */
	/* The last wait for many ends that had this one, and the index of this end there. */
	unsigned long crowd;
	unsigned entry;
	size_t take_most;  /* the longest message that is received without a look at it first */
	size_t expected;   /* the length of the last message, or 0 if it was very short */
	PyObject *last;    /* that message */
	struct part *part; /* of a long message that a call began and did not finish */
	PyObject *name;    /* a str, or NULL */
};

/* A call that uses a hold.  The records of a thread are in a list. */
struct use {
	struct hold *hold;
	struct use_record *record;
	unsigned process;
};

/* Takes over the pipe, even if it fails.  Returns 0 or a negative errno: -EPERM if the pipe is not shared. */
int hold_new(struct hold **hold, bufpipe_t *pipe);
void hold_add(struct hold *hold);
void hold_drop(struct hold *hold);
void hold_use(struct hold *hold, struct use *use);
void hold_unuse(struct use *use);
/* To be called after a message was received: the descriptor of fileno() must not stay readable for nothing. */
void hold_settle(struct hold *hold);
/* Forgets the part; the library must not be in the middle of it for this thread any more. */
void hold_forget_part(struct hold *hold);

static inline bool hold_static(const struct hold *hold)
{
	return hold->info.object_size != 0;
}

/* Notes that this thread has taken a lock.  Returns NULL without an exception if there is no memory. */
struct stay *stay_begin(struct hold *hold, enum direction direction);
/* To be called by the thread of the stay after it has released the lock, and before the caller drops the hold. */
void stay_end(struct stay *stay);
/* To be called instead of stay_end in another thread, or in a forked child. */
void stay_leave(struct stay *stay);
/* Whether this thread of this process took the lock. */
bool stay_is_mine(const struct stay *stay);
/* How many stays are in the state STAY_LEFT.  Written under the lock of the stays. */
extern _Atomic unsigned stays_left __attribute__((visibility("hidden")));
/* Releases the locks that this thread took for views and messages which another thread has dropped. */
void stays_give_back(void);

/* A number that is different in a forked child.  Reading it is faster than getpid(). */
unsigned this_process(void);
/* A number that no other thread has or had; the ident of a thread would be used again.  Never 0. */
unsigned long thread_number(void);
/* To be called once before all others: they must learn of forks and of threads that end.  0 or a negative errno. */
int hold_watch(void);

#endif
