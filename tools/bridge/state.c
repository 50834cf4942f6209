/* SPDX-License-Identifier: MIT */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC   0x6567646972627062u /* "bpbridge" */
#define VERSION 2u

void state_random(void *room, size_t len)
{
	/* Up to 256 bytes never come short. */
	while (getrandom(room, len, 0) != (ssize_t)len)
		;
}

static void begin(struct state *state)
{
	memset(state, 0, sizeof(*state));
	state_random(state->out.session, sizeof(state->out.session));
	state_random(state->in.consumer, sizeof(state->in.consumer));
	state->version = VERSION;
	STATE_SET(state->magic, MAGIC);
}

/* Numbers that lead outside of the file would be followed: a file that was damaged is refused. */
static bool is_sound(const struct state *state)
{
	const struct state_out *out = &state->out;

	if (state->version != VERSION || out->acked > out->sealed || out->sealed > out->begun)
		return false;
	if (out->begun - out->sealed > 1 || out->begun - out->acked > STATE_SLOTS)
		return false;
	for (uint64_t n = out->acked; n < out->begun; n++) {
		const struct state_slot *slot = &state->slots[n % STATE_SLOTS];

		if (slot->len > STATE_JOURNAL || slot->offset > STATE_JOURNAL - slot->len)
			return false;
	}
	return state->in.intent_session <= STATE_SESSIONS;
}

int state_open(struct state **state, const char *path, bool with_journal, const char **why)
{
	size_t size = sizeof(struct state) + (with_journal ? STATE_JOURNAL : 0);
	struct state *map;
	struct stat info;
	int fd;

	*why = "open";
	fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)
		  : memfd_create("bufpipe-bridge", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	*why = "lock";
	if (path && flock(fd, LOCK_EX | LOCK_NB) < 0)
		goto fail;
	*why = "make room in";
	if (fstat(fd, &info) < 0)
		goto fail;
	/* Allocated now, as a store into a hole of a full disk would be a signal. */
	errno = posix_fallocate(fd, 0, (off_t)size);
	if (errno)
		goto fail;
	*why = "map";
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		goto fail;
	if (map->magic != MAGIC) {
		begin(map);
	} else if (!is_sound(map)) {
		*why = "understand";
		munmap(map, size);
		close(fd);
		return -EBADMSG;
	}
	/* The descriptor stays open: it carries the lock. */
	*state = map;
	return 0;
fail:
	size = (size_t)errno;
	close(fd);
	return -(int)size;
}
