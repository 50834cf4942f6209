/* SPDX-License-Identifier: MIT */
/* The memory of a tally. */
#ifndef BUFFERED_PIPE_TALLY_PAGE_H
#define BUFFERED_PIPE_TALLY_PAGE_H

#include "queue_count.h"

#include <pthread.h>
#include <stdatomic.h>

#define MAGIC 0x31796c6c61747062ull /* "bptally1" in memory */
#define LINE  64

/* A place in the ring that is not known. */
#define NOWHERE UINT64_MAX

/* A bit of 'word': a producer is putting the item after the last one counted, or died while it put it. */
#define CLAIMED ((uint64_t)1)

struct page {
	_Alignas(LINE) uint64_t magic; /* written by the creator, once */
	uint64_t maxsize;
	/* Written by the producer that holds the lock; word is read by all. */
	_Alignas(LINE) pthread_mutex_t lock;
	uint64_t from;         /* where the record of the last claim begins */
	uint64_t next;         /* where the next record will begin, if nothing is claimed; or NOWHERE */
	_Atomic uint64_t word; /* twice the number of items that were put, plus CLAIMED */
	/* gets is raised by consumers, and by all that look at the ring. */
	_Alignas(LINE) _Atomic uint64_t gets; /* the number of the last item that was taken */
	/* A producer waits for gets to rise.  Set and cleared by that producer; cleared by whoever wakes it. */
	_Atomic uint32_t wanted;
	_Atomic uint32_t risen;   /* the futex word of that producer; incremented by whoever wakes it */
	_Atomic uint32_t blocked; /* the owner of the lock waits or sends a long item; written by the owner */
	/* Incremented by task_done(). */
	_Alignas(LINE) _Atomic uint64_t done;
	/* A call of join() waits for done to rise.  Set by that call; cleared by the task_done() that wakes it. */
	_Atomic uint32_t joined;
	_Atomic uint32_t
		finished; /* the futex word of join(); incremented by the task_done() that wakes it */
};

_Static_assert(sizeof(pthread_mutex_t) + 3 * sizeof(uint64_t) <= LINE, "what a put writes is one line");

struct tally {
	struct page *page;
	int fd;
	unsigned refs; /* changed under the GIL only */
};

#endif
