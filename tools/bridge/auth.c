/* SPDX-License-Identifier: MIT */
/* Secrets come from the environment and from files, never from the arguments. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config.h"

#define LINE_MAX_LEN 4096

struct field {
	const char *name;
	const char *variable;
	size_t offset;
};

#define FIELD(name, variable)                                     \
	{                                                         \
#name, variable, offsetof(struct nats_auth, name) \
	}

static const struct field fields[] = {
	FIELD(user, "NATS_USER"),   FIELD(password, "NATS_PASSWORD"), FIELD(token, "NATS_TOKEN"),
	FIELD(creds, "NATS_CREDS"), FIELD(nkey, "NATS_NKEY"),         FIELD(seed, "NATS_SEED"),
	FIELD(ca, "NATS_CA"),       FIELD(cert, "NATS_CERT"),         FIELD(key, "NATS_KEY"),
};

#define FIELDS (sizeof(fields) / sizeof(fields[0]))

static char **field_of(struct nats_auth *auth, const struct field *field)
{
	return (char **)(void *)((char *)auth + field->offset);
}

void auth_read_environment(struct nats_auth *auth)
{
	for (unsigned i = 0; i < FIELDS; i++) {
		const char *value = getenv(fields[i].variable);

		/* What a file or an option said counts. */
		if (value && *value && !*field_of(auth, &fields[i]))
			*field_of(auth, &fields[i]) = strdup(value);
	}
}

static const char *keep(struct nats_auth *auth, char *line)
{
	char *value = strchr(line, '=');

	if (!value)
		return "a line is not NAME=VALUE";
	*value++ = 0;
	for (unsigned i = 0; i < FIELDS; i++) {
		if (strcmp(fields[i].name, line) == 0) {
			*field_of(auth, &fields[i]) = strdup(value);
			return NULL;
		}
	}
	return "the names are user, password, token, creds, nkey, seed, ca, cert and key";
}

const char *auth_read_file(struct nats_auth *auth, const char *path)
{
	FILE *file = fopen(path, "re");
	const char *wrong = NULL;
	char line[LINE_MAX_LEN];
	struct stat info;

	if (!file)
		return strerror(errno);
	if (fstat(fileno(file), &info) == 0 && info.st_mode & S_IROTH)
		wrong = "everybody may read it: chmod o-r";
	while (!wrong && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\r\n")] = 0;
		if (line[0] && line[0] != '#')
			wrong = keep(auth, line);
	}
	explicit_bzero(line, sizeof(line));
	fclose(file);
	return wrong;
}
