/* SPDX-License-Identifier: MIT */
/* Addresses of the far side: nats://host:4222,host2/subject?stream=NAME&create */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config.h"

#define NAME_MAX_LEN    64u
#define SUBJECT_MAX_LEN 200u

static const char *scheme_end(const char *text)
{
	if (strncmp(text, "nats://", 7) == 0)
		return text + 7;
	if (strncmp(text, "tls://", 6) == 0)
		return text + 6;
	return NULL;
}

bool is_nats_address(const char *text)
{
	return scheme_end(text) != NULL;
}

/* A name of a stream, a consumer or a queue: what the server allows in subjects and file names. */
static bool is_name(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > NAME_MAX_LEN)
		return false;
	for (; *text; text++) {
		if (!isalnum((unsigned char)*text) && !strchr("-_", *text))
			return false;
	}
	return true;
}

static const char *check_subject(const char *subject)
{
	const char *token = subject;
	size_t len;

	if (!*subject)
		return "there is no subject after the server: nats://HOST/SUBJECT";
	if (strlen(subject) > SUBJECT_MAX_LEN)
		return "the subject is too long";
	if (*subject == '$' || strncmp(subject, "_INBOX", 6) == 0)
		return "the server keeps subjects that begin with $ or _INBOX for itself";
	for (const char *c = subject; *c; c++) {
		if ((unsigned char)*c <= ' ' || *c == 127)
			return "a subject has no blanks and no control characters";
	}
	for (;; token += len + 1) {
		len = strcspn(token, ".");
		if (len == 0)
			return "a part of the subject is empty: look at the dots";
		if (len > 1 && memchr(token, '*', len))
			return "* stands for a whole part of a subject";
		if (memchr(token, '>', len) && (len > 1 || token[len]))
			return "> stands for all that follows, so it must be the last part";
		if (!token[len])
			return NULL;
	}
}

/* 2026-01-31T12:00:00Z: always in UTC. */
static bool parse_time(const char *text, int64_t *ns)
{
	struct tm fields = { 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &fields);
	time_t seconds;

	if (!end || *end)
		return false;
	seconds = timegm(&fields);
	*ns = (int64_t)seconds * 1000000000;
	return seconds > 0;
}

static const char *parse_start(struct nats_address *address, const char *value)
{
	char *end;

	if (strcmp(value, "first") == 0) {
		address->start = START_FIRST;
		return NULL;
	}
	if (strcmp(value, "new") == 0) {
		address->start = START_NEW;
		return NULL;
	}
	if (parse_time(value, &address->start_time_ns)) {
		address->start = START_TIME;
		return NULL;
	}
	errno = 0;
	address->start = START_SEQUENCE;
	address->start_sequence = isdigit((unsigned char)*value) ? strtoull(value, &end, 10) : 0;
	if (address->start_sequence == 0 || errno || *end)
		return "start is first, new, a number from 1, or a time like 2026-01-31T12:00:00Z";
	return NULL;
}

static const char *keep_name(char **where, const char *value)
{
	if (!is_name(value))
		return "a stream, consumer or queue is named by up to 64 letters, digits, - and _";
	*where = strdup(value);
	return *where ? NULL : "no memory";
}

static const char *parse_parameter(struct nats_address *address, char *parameter)
{
	char *value = strchr(parameter, '=');

	if (value)
		*value++ = 0;
	if (!value) {
		if (strcmp(parameter, "create") == 0)
			address->create = true;
		else if (strcmp(parameter, "nohold") == 0)
			address->no_hold = true;
		else
			return "the parameters without a value are create and nohold";
		return NULL;
	}
	if (strcmp(parameter, "stream") == 0)
		return keep_name(&address->stream, value);
	if (strcmp(parameter, "queue") == 0)
		return keep_name(&address->queue, value);
	if (strcmp(parameter, "consumer") == 0)
		return keep_name(&address->consumer, value);
	if (strcmp(parameter, "start") == 0)
		return parse_start(address, value);
	if (strcmp(parameter, "max-bytes") == 0)
		return parse_size(value, &address->max_bytes) ? NULL : "max-bytes is a size like 10G";
	return "the parameters are stream, create, queue, consumer, start, max-bytes and nohold";
}

static const char *check_parameters(const struct nats_address *address)
{
	if (address->stream) {
		if (address->no_hold)
			return "nohold is for addresses without a stream";
		if (address->queue && address->consumer)
			return "queue names the consumer, too: give one of the two";
		return strpbrk(address->subject, "*>") ? "a stream is bridged by one subject, without * and >"
						       : NULL;
	}
	if (address->create || address->consumer || address->start || address->max_bytes)
		return "create, consumer, start and max-bytes need a stream=NAME";
	return NULL;
}

const char *nats_address_parse(struct nats_address *address, const char *text)
{
	const char *hosts = scheme_end(text);
	const char *subject = strchr(hosts, '/');
	const char *wrong;
	char *query, *next, *rest;

	*address = (struct nats_address){ 0 };
	if (!subject)
		return "there is no subject after the server: nats://HOST/SUBJECT";
	if (memchr(hosts, '@', (size_t)(subject - hosts)))
		return "no user or password in the address, where everybody sees it: use --auth FILE or the "
		       "environment";
	if (subject == hosts)
		return "there is no server: nats://HOST/SUBJECT";
	address->servers = strndup(text, (size_t)(subject - text));
	address->subject = strdup(subject + 1);
	if (!address->servers || !address->subject)
		return "no memory";
	query = strchr(address->subject, '?');
	if (query)
		*query++ = 0;
	wrong = check_subject(address->subject);
	for (next = query; next && !wrong; next = rest) {
		rest = strchr(next, '&');
		if (rest)
			*rest++ = 0;
		wrong = parse_parameter(address, next);
	}
	return wrong ? wrong : check_parameters(address);
}
