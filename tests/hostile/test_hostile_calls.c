/* SPDX-License-Identifier: MIT */
/* A peer attacks by system calls on what it shares with its victim. hostile/attack.h says what is checked. */
#include "hostile/attack.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

TestSuite(hostile_calls, .timeout = 120);

static void flood(const struct duel *d, uint64_t random)
{
	static const char bytes[70000];
	static const size_t sizes[] = { 0, 1, 1, 1, 200, 65536 };

	send(d->rogue->socket, bytes, sizes[random % 6],
	     MSG_DONTWAIT | MSG_NOSIGNAL | (random & 64 ? MSG_OOB : 0));
}

Test(hostile_calls, floods_of_the_doorbell)
{
	attack_from_each(flood, LATE);
}

static void send_rights(const struct duel *d, uint64_t random)
{
	int fds[4] = { d->rogue->socket, d->rogue->ours.fd, d->rogue->theirs.fd, d->rogue->socket };

	rogue_send(d->rogue->socket, "", random / 4 % 2, fds, (int)(random % 4) + 1);
}

Test(hostile_calls, descriptors_on_the_doorbell)
{
	attack_from_each(send_rights, LATE);
}

static void punch(const struct duel *d, uint64_t random)
{
	fallocate(d->rogue->ours.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, random % 2 ? 0 : 4096,
		  random % 3 ? 4096 : 1 << 20);
	if (random % 4 == 0)
		atomic_store(&d->rogue->ours.control->recv_waiter.raises, random);
}

Test(hostile_calls, holes_in_its_memory)
{
	attack_from_each(
		punch, SOON); /* a page fault waits for the process that punches, which may wait for a CPU */
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static void collapse(const struct duel *d, uint64_t random)
{
	enum { HUGE = 2 << 20 };
	const struct region *region = random % 2 ? &d->rogue->ours : &d->rogue->theirs;
	char *space = mmap(NULL, 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = (char *)(((uintptr_t)space + HUGE - 1) & ~(uintptr_t)(HUGE - 1));

	if (mmap(at, HUGE, PROT_READ, MAP_SHARED | MAP_FIXED, region->fd, 0) != MAP_FAILED)
		madvise(at, HUGE, MADV_COLLAPSE);
	munmap(space, 2 * HUGE);
	if (random % 8 == 0)
		punch(d, random / 8);
}

Test(hostile_calls, huge_pages_in_both_regions)
{
	attack_from_each(collapse, SOON);
}

/* Changes size, seals and mode of the victim's region, and opens it again. */
static void alter(const struct duel *d, uint64_t random)
{
	int fd = random % 2 ? d->rogue->theirs.fd : d->rogue->ours.fd;
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* Its failure is the end of the attacker, which the victim notices: see flipper_stop. */
	if (ftruncate(fd, (off_t)(random % 4096)) == 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
		_exit(1);
	if (geteuid() == NOBODY && fd == d->rogue->theirs.fd) {
		again = open(path, O_RDWR | O_CLOEXEC);
		if (again >= 0 || fchmod(fd, 0600) == 0)
			_exit(2);
	}
}

Test(hostile_calls, sizes_seals_and_modes_of_its_memory)
{
	attack_from_each(alter, LATE);
}

static void *sleep_for_ever(void *arg)
{
	const _Atomic uint32_t *word = arg;

	for (;;)
		sys_futex_wait(word, atomic_load(word), TIME_FOREVER);
	return NULL;
}

static void park(const struct duel *d, uint64_t random)
{
	static int parked;
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 65536);
	for (; parked < 200; parked++)
		pthread_create(&thread, &small, sleep_for_ever,
			       &d->rogue->theirs.control->send_waiter.events);
	rogue_wave_flags(d, random);
}

Test(hostile_calls, sleepers_on_the_victims_futex_word)
{
	attack_from_each(park, SOON); /* all of them run when they are woken */
}
