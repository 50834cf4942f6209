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

/* A bit of 'word': a producer is putting the item after the last that is counted, or died in that. */
#define CLAIMED ((uint64_t)1)

struct page {
	_Alignas(LINE) uint64_t magic; /* written by the creator, once */
	uint64_t maxsize;
	/* Written by the producer that holds the lock; word is read by all. */
	_Alignas(LINE) pthread_mutex_t lock;
	uint64_t from;         /* where the record of the last claim begins */
	uint64_t next;         /* where the next record will begin, if nothing is claimed; or NOWHERE */
	_Atomic uint64_t word; /* twice how many items were put; CLAIMED */
	/* gets: raised by consumers, and by any that look at the ring. */
	_Alignas(LINE) _Atomic uint64_t gets; /* the number of the last item that was taken */
	_Atomic uint32_t wanted;  /* a producer waits for gets to rise: set by it, cleared by consumers */
	_Atomic uint32_t risen;   /* futex word of that producer; bumped by consumers */
	_Atomic uint32_t blocked; /* the owner of the lock waits or sends a long item; written by the owner */
	/* Written by those who call task_done. */
	_Alignas(LINE) _Atomic uint64_t done;
	_Atomic uint32_t
		joined; /* somebody waits for done to rise: set by the waiting, cleared by the one that wakes them */
	_Atomic uint32_t finished; /* futex word of theirs */
};

_Static_assert(sizeof(pthread_mutex_t) + 3 * sizeof(uint64_t) <= LINE, "what a put writes is one line");

/* Counted under the GIL. */
struct tally {
	struct page *page;
	int fd;
	unsigned refs;
};

#endif
