/* SPDX-License-Identifier: MIT */
/*
 * One end of the library, and all that counts who uses it: handles, calls, and
 * threads that have a lock of it.
 */
#ifndef BUFFERED_PIPE_HOLD_H
#define BUFFERED_PIPE_HOLD_H

#include "base.h"

#include <stdatomic.h>

/* A message of at most this is received without asking for its length. */
#define SHORT ((size_t)4096)

/*
 * A lock of the library that a thread has from entering a view to leaving it, or
 * in the middle of a long message.  Only that thread can give it back: the lock
 * lies in the memory of the pipe and in a list of the thread, so the memory must
 * not go before.
 */
struct stay {
	struct hold *hold;
	enum direction direction;
	unsigned long thread;
	enum stay_state {
		STAY_OURS, /* of a view or a message, whose thread lives */
		STAY_LEFT, /* another thread dropped that: the one that entered must give the lock back */
		STAY_GONE, /* the thread is gone, or was left behind by a fork */
	} state;
	bool listed;
	struct stay *next;
	struct stay **at_me;
};

/* A message longer than the ring, of which a thread has received the beginning. */
struct part {
	PyObject *made; /* bytes or bytearray, as long as the memory that there is so far; NULL: in *data */
	char *data;
	size_t room;
	size_t have;
	size_t total;
	struct stay *stay;
	bool busy; /* a call is at work on it */
};

/*
 * An end as the library has it.  It is shared by the handles that fork() makes,
 * and closed when no handle and no call uses it any more.  Changed under the
 * GIL only.
 */
struct hold {
	bufpipe_t *pipe;
	unsigned handles; /* and open views */
	unsigned uses;    /* calls that are at work without the GIL */
	unsigned process; /* to which the uses belong: fork leaves the other threads behind */
	struct bufpipe_info info;
	/* Written under the lock of the stays: */
	unsigned stays; /* locks of this end that a thread still has */
	bool parked;    /* nothing else uses it: the last stay closes it */
	int fd;         /* of bufpipe_fd; -1: nobody asked for it */
	/* In a wait for many: which wait, and its number there. */
	unsigned long crowd;
	unsigned entry;
	size_t take_most;  /* the longest message that is received without a look at it first */
	size_t expected;   /* the length of the last message; 0 if that was very short */
	PyObject *last;    /* that message */
	struct part *part; /* of a long message that a call began and did not finish */
	PyObject *name;    /* a str, or NULL */
};

/* A call that uses a hold.  Those of a thread are a list. */
struct use {
	struct hold *hold;
	struct use_record *record;
	unsigned process;
};

/* Takes the pipe, also when it fails: a negative errno; -EPERM for one that is not shared. */
int hold_new(struct hold **hold, bufpipe_t *pipe);
void hold_add(struct hold *hold);
void hold_drop(struct hold *hold);
void hold_use(struct hold *hold, struct use *use);
void hold_unuse(struct use *use);
/* After a message was taken: a descriptor that is polled must not stay ready for nothing. */
void hold_settle(struct hold *hold);
/* Forgets the part; the library must not be in the middle of it for this thread any more. */
void hold_forget_part(struct hold *hold);

static inline bool hold_static(const struct hold *hold)
{
	return hold->info.object_size != 0;
}

/* Notes that this thread enters something.  NULL without memory; no exception. */
struct stay *stay_begin(struct hold *hold, enum direction direction);
/* Its thread has given the lock back.  Before the view lets go of the hold. */
void stay_end(struct stay *stay);
/* In another thread, or in another process than the one that entered.  The same. */
void stay_leave(struct stay *stay);
/* Whether it is this thread that entered, in this process. */
bool stay_is_mine(const struct stay *stay);
/* How many are left by others and not given back, by all threads.  Written under the lock of the stays. */
extern _Atomic unsigned stays_left __attribute__((visibility("hidden")));
/* Gives back what this thread had entered and another one has left. */
void stays_give_back(void);

/* A number that is another one in a forked child; sooner known than the pid. */
unsigned this_process(void);
/* A number that no other thread has or had; the ident of a thread that is gone is soon another's.  Never 0. */
unsigned long thread_number(void);
/* Once, before any of these: forks, and threads that end.  0 or a negative errno. */
int hold_watch(void);

#endif
