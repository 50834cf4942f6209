/* SPDX-License-Identifier: MIT */
/* What the arguments, the configuration file and the environment say. */
#ifndef BRIDGE_CONFIG_H
#define BRIDGE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../common.h"

enum start { START_DEFAULT, START_FIRST, START_NEW, START_SEQUENCE, START_TIME };

/* An address like nats://host:4222/subject?stream=NAME. */
struct nats_address {
	char *servers; /* URLs with commas, without the subject */
	char *subject;
	char *stream;   /* NULL: core */
	char *queue;    /* or NULL */
	char *consumer; /* or NULL */
	bool create;
	bool no_hold; /* publish even while no bridge receives */
	enum start start;
	uint64_t start_sequence;
	int64_t start_time_ns;
	size_t max_bytes; /* of a stream that is created; 0: no limit */
};

/* One pipe. */
struct line_config {
	char *text; /* for messages: PIPE -> SUBJECT */
	char *pipe;
	struct nats_address nats;
	/* What is published on, and what is listened to: the subject, or one beneath it for each direction. */
	char *out_subject, *in_subject;
	bool to_nats; /* the pipe is where messages come from */
	bool duplex;
	bool listen; /* rather than connect */
	bool rate_original;
	size_t buffer;
};

/* How to prove who we are.  NULL: not given. */
struct nats_auth {
	char *user, *password, *token, *creds, *nkey, *seed;
	char *ca, *cert, *key;
};

struct bridge_config {
	struct line_config *lines;
	unsigned n;
	struct nats_auth auth;
	const char *state_dir; /* NULL: not given */
	size_t longest;        /* a longer message is refused */
	int64_t give_up_ns;    /* after so long without a server; -1: never */
	bool any_user;
	bool once;
	bool progress;
};

/* 0; or the status to exit with, after what there was to say. -1: exit with 0. */
int config_parse(struct bridge_config *config, const struct command *command, int argc, char **argv);
/* All but the secrets, which live as long as the process. */
void config_free(struct bridge_config *config);

/* NULL, or what is wrong with it. */
const char *nats_address_parse(struct nats_address *address, const char *text);
/* Whether text is one. */
bool is_nats_address(const char *text);
/* NULL, or what is wrong with it. */
const char *auth_read_file(struct nats_auth *auth, const char *path);
void auth_read_environment(struct nats_auth *auth);

#endif
