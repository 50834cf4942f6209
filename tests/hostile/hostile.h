/* SPDX-License-Identifier: MIT */
/*
 * Shared by the tests of hostile peers. A rogue is an end whose holder knows the layout of its own region
 * and writes anything into it: from this process before a call of its victim, or from another process
 * during the call.
 */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H

#include "connect/handshake.h"
#include "end/end.h"
#include "support.h"

/* Descriptors and shared mappings of this process. A leak would increase them. */
struct tally {
	int fds;
	int maps;
};

struct tally tally_now(void);
void tally_assert(struct tally before, const char *what);

/* Everything that a process uses. Memory is in KiB. */
struct usage {
	struct tally tally;
	long own;    /* resident private memory */
	long shared; /* resident shared memory */
};

struct usage usage_now(void);
/* Checks that no descriptors and mappings were added, and at most so much private and shared memory. */
void usage_assert(struct usage before, long own, long shared, const char *what);

/* A user id that no process here has. */
#define NOBODY 65534

/* A pipe that nobody attacks. bystander_assert checks that it still works as before, and closes it. */
struct bystander {
	bufpipe_t *ends[2];
};

struct bystander bystander_make(void);
void bystander_assert(struct bystander *bystander);

/* A pipe: the victim's end, and the rogue's. */
struct duel {
	bufpipe_t *victim;
	bufpipe_t *rogue;
	struct bystander bystander;
	struct tally before;
};

/* The victim has ends[victim]: 0 receives, 1 sends. */
struct duel duel_begin(int victim, const struct bufpipe_options *options);
void duel_end(struct duel *duel);

/* The rogue's ring, at the place where the victim will read next, or at a position. */
_Atomic uint64_t *rogue_header(const struct duel *duel, uint64_t position);
uint64_t victim_head(const struct duel *duel);
void rogue_put(const struct duel *duel, uint64_t header);
/* Writes the same word at each place where a record can begin. */
void rogue_fill(const struct duel *duel, uint64_t word);

/* Repeats a step until flipper_stop, in another process, which has closed the victim's end. */
typedef void flip_step(const struct duel *duel, uint64_t random);
pid_t flipper_start(const struct duel *duel, flip_step *step);
void flipper_stop(pid_t pid);

/* Small, repeatable random numbers. */
uint64_t random_next(uint64_t *state);

/* Nanoseconds since begin. */
int64_t elapsed(int64_t begin);
/* For how many ns this thread has waited for a CPU so far, or -1 if the kernel does not tell. */
int64_t time_queued(void);
/* How long any call with a timeout of at most 50 ms may take on a busy machine. */
#define SOON (3 * NSEC_PER_SEC)

/* How long to attack: for a moment, or for as many seconds as BUFPIPE_TEST_SECONDS says. */
int64_t attack_time(void);

/*
 * A SOCK_SEQPACKET socket with an abstract name that nobody else has. name becomes an address for
 * bufpipe_connect.
 */
int rogue_listen(char name[64]);
int rogue_connect(const char *name);

/* Sends one packet with any descriptors. Returns what sendmsg returns. */
ssize_t rogue_send(int socket, const void *bytes, size_t len, const int *fds, int n);
/* Sends one packet with at most one descriptor (-1 for none). */
ssize_t rogue_recv(int socket, void *bytes, size_t len, int *fd);

/* The identity of an honest end with default options. */
struct identity honest_identity(unsigned layout_flags);
/* A memfd of this size with this identity and these seals. */
int forge_region(const struct identity *identity, off_t size, int seals);
off_t honest_size(const struct identity *identity);

/* A listener, and a connector that has received the offer. The next packet of the handshake is a region. */
struct meeting {
	bufpipe_listener_t *listener;
	char address[64];
	struct handshake offer;
	int socket;
	int offered; /* the listener's region */
};

struct meeting meet(const struct bufpipe_options *options);
void part(struct meeting *meeting);

/* An abstract address that no other test has. */
void name_address(char address[64]);
/* Connects and sends the wishes of a client, for any direction and a buffer of this size. */
int rogue_wish(const char *address, size_t buffer_size);

/*
 * An honest client in another process connects and sends "hello". The listener accepts it and receives that.
 */
void honest_visit(bufpipe_listener_t *listener, const char *address, const struct bufpipe_options *options);

/* The bytes of the packet in which bufpipe_send_end would send this end. */
size_t parcel_bytes(bufpipe_t *pipe, char bytes[64]);

#endif
