/* SPDX-License-Identifier: MIT */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_LEN 4096
#define WORDS_MAX    32
#define BUFFER       ((size_t)1 << 20)
#define LONGEST      ((size_t)1 << 30)

enum {
	FROM = 256,
	TO,
	LISTEN,
	CONNECT,
	DUPLEX,
	CONFIG,
	RATE,
	AUTH,
	CA,
	CERT,
	KEY,
	STATE,
	LONGEST_MESSAGE,
	GIVE_UP,
	ONCE,
};

static const struct option options[] = {
	{ "from", required_argument, NULL, FROM },
	{ "to", required_argument, NULL, TO },
	{ "listen", no_argument, NULL, LISTEN },
	{ "connect", no_argument, NULL, CONNECT },
	{ "duplex", no_argument, NULL, DUPLEX },
	{ "rate", required_argument, NULL, RATE },
	{ "buffer", required_argument, NULL, 'B' },
	/* From here on for the whole process, so not in lines of a file. */
	{ "config", required_argument, NULL, CONFIG },
	{ "auth", required_argument, NULL, AUTH },
	{ "tls-ca", required_argument, NULL, CA },
	{ "tls-cert", required_argument, NULL, CERT },
	{ "tls-key", required_argument, NULL, KEY },
	{ "state", required_argument, NULL, STATE },
	{ "longest", required_argument, NULL, LONGEST_MESSAGE },
	{ "give-up", required_argument, NULL, GIVE_UP },
	{ "once", no_argument, NULL, ONCE },
	{ "any-user", no_argument, NULL, 'a' },
	{ "progress", no_argument, NULL, 'p' },
	{ "help", no_argument, NULL, 'h' },
	{ 0 },
};

/* What the options of one pipe say, before they are judged together. */
struct line_arguments {
	const char *from, *to;
	bool listen, connect, duplex, rate_original;
	size_t buffer;
};

static bool line_option(struct line_arguments *args, int option, const char **wrong)
{
	switch (option) {
	case FROM:
		args->from = optarg;
		return true;
	case TO:
		args->to = optarg;
		return true;
	case LISTEN:
		args->listen = true;
		return true;
	case CONNECT:
		args->connect = true;
		return true;
	case DUPLEX:
		args->duplex = true;
		return true;
	case RATE:
		args->rate_original = true;
		if (strcmp(optarg, "original") != 0)
			*wrong = "--rate takes the word original";
		return true;
	case 'B':
		if (!parse_size(optarg, &args->buffer) || args->buffer > LONGEST)
			*wrong = "--buffer is a size of up to 1G, like 64K";
		return true;
	}
	return false;
}

static const char *process_option(struct bridge_config *config, int option)
{
	char *end;

	switch (option) {
	case CA:
		config->auth.ca = optarg;
		return NULL;
	case CERT:
		config->auth.cert = optarg;
		return NULL;
	case KEY:
		config->auth.key = optarg;
		return NULL;
	case STATE:
		config->state_dir = optarg;
		return NULL;
	case LONGEST_MESSAGE:
		return parse_size(optarg, &config->longest) && config->longest <= LONGEST
			       ? NULL
			       : "--longest is a size of up to 1G, like 64M";
	case GIVE_UP:
		config->give_up_ns = (int64_t)(strtod(optarg, &end) * 1e9);
		return *end || end == optarg || config->give_up_ns < 0 ? "--give-up is a number of seconds"
								       : NULL;
	case ONCE:
		config->once = true;
		return NULL;
	case 'a':
		config->any_user = true;
		return NULL;
	case 'p':
		config->progress = true;
		return NULL;
	}
	return "no such option";
}

static const char *check_directions(struct line_config *line)
{
	bool wild = strpbrk(line->nats.subject, "*>") != NULL;

	if (wild && (line->to_nats || line->duplex))
		return "nothing can be published on a subject with * or >";
	if (line->nats.no_hold && !line->to_nats)
		return "nohold is for the side that publishes";
	if ((line->nats.queue || line->nats.start || line->nats.consumer) && line->to_nats && !line->duplex)
		return "queue, start and consumer are for the side that receives";
	if (line->nats.queue && line->nats.start)
		return "a queue shares one position, so start does not go with it";
	if (line->rate_original && (line->to_nats || !line->nats.stream))
		return "--rate original is for the side that receives from a stream";
	return NULL;
}

/* Over one subject two bridges of a duplex pipe would hear themselves. */
static bool name_subjects(struct line_config *line)
{
	const char *subject = line->nats.subject;

	if (!line->duplex) {
		line->out_subject = strdup(subject);
		line->in_subject = strdup(subject);
		return line->out_subject && line->in_subject;
	}
	return asprintf(&line->out_subject, "%s.%s", subject, line->to_nats ? "there" : "back") > 0 &&
	       asprintf(&line->in_subject, "%s.%s", subject, line->to_nats ? "back" : "there") > 0;
}

static bool is_pipe_address(const char *text)
{
	return *text == '@' || strchr(text, '/') || strncmp(text, "fd:", strlen("fd:")) == 0 ||
	       strncmp(text, "systemd:", strlen("systemd:")) == 0;
}

static void free_line(struct line_config *line)
{
	free(line->text);
	free(line->pipe);
	free(line->out_subject);
	free(line->in_subject);
	free(line->nats.servers);
	free(line->nats.subject);
	free(line->nats.stream);
	free(line->nats.queue);
	free(line->nats.consumer);
}

/* NULL, or what is wrong with the arguments; then the line is to be freed all the same. */
static const char *fill_line(struct line_config *line, const struct line_arguments *args)
{
	const char *wrong;

	*line = (struct line_config){
		.duplex = args->duplex,
		.listen = !args->connect,
		.rate_original = args->rate_original,
		.buffer = args->buffer ? args->buffer : BUFFER,
	};
	if (!args->from || !args->to)
		return "both --from and --to are needed";
	if (args->listen && args->connect)
		return "--listen and --connect exclude each other";
	line->to_nats = is_nats_address(args->to);
	if (line->to_nats == is_nats_address(args->from))
		return "one of --from and --to is a pipe, the other nats://HOST/SUBJECT";
	line->pipe = strdup(line->to_nats ? args->from : args->to);
	if (!line->pipe)
		return "no memory";
	if (!is_pipe_address(line->pipe))
		return "a pipe is @name, /path, ./path, fd:N, systemd: or systemd:NAME";
	wrong = nats_address_parse(&line->nats, line->to_nats ? args->to : args->from);
	if (!wrong)
		wrong = check_directions(line);
	if (wrong)
		return wrong;
	if (!name_subjects(line) || asprintf(&line->text, line->to_nats ? "%s -> %s" : "%2$s -> %1$s",
					     line->pipe, line->nats.subject) < 0)
		return "no memory";
	return NULL;
}

static const char *add_line(struct bridge_config *config, const struct line_arguments *args)
{
	struct line_config *lines;
	struct line_config line;
	const char *wrong = fill_line(&line, args);

	lines = wrong ? NULL : realloc(config->lines, (config->n + 1) * sizeof(*lines));
	if (!lines) {
		free_line(&line);
		return wrong ? wrong : "no memory";
	}
	lines[config->n++] = line;
	config->lines = lines;
	return NULL;
}

/* One pipe from a line of the configuration file: the options of one, without their secrets. */
static const char *parse_words(struct bridge_config *config, int n, char **words)
{
	struct line_arguments args = { 0 };
	const char *wrong = NULL;
	int option;

	optind = 0;
	opterr = 0;
	while (!wrong && (option = getopt_long(n, words, "", options, NULL)) != -1) {
		if (!line_option(&args, option, &wrong))
			return "a line may have --from, --to, --listen, --connect, --duplex, --rate and "
			       "--buffer";
	}
	if (!wrong && optind < n)
		return "a line consists of options";
	return wrong ? wrong : add_line(config, &args);
}

static const char *parse_file_line(struct bridge_config *config, char *line)
{
	char *words[WORDS_MAX + 1] = { (char *)(uintptr_t) "bufpipe" };
	char *rest = line;
	int n = 1;

	while (n < WORDS_MAX) {
		words[n] = strtok_r(rest, " \t\r\n", &rest);
		if (!words[n])
			break;
		n++;
	}
	return n == 1 || words[1][0] == '#' ? NULL : parse_words(config, n, words);
}

static int read_file(struct bridge_config *config, const char *path)
{
	FILE *file = fopen(path, "re");
	const char *wrong = NULL;
	char line[LINE_MAX_LEN];
	unsigned number = 0;

	if (!file) {
		complain("%s: %s", path, strerror(errno));
		return STATUS_FAILED;
	}
	while (!wrong && fgets(line, sizeof(line), file)) {
		number++;
		wrong = parse_file_line(config, line);
	}
	fclose(file);
	if (!wrong && config->n == 0)
		wrong = "there is no pipe in it";
	if (!wrong)
		return 0;
	complain("%s:%u: %s", path, number, wrong);
	return STATUS_USAGE;
}

static const char *check_auth(const struct nats_auth *auth)
{
	if (!auth->user != !auth->password)
		return "user and password go together";
	if (!auth->nkey != !auth->seed)
		return "nkey (the public key) and seed (a file) go together";
	if (!auth->cert != !auth->key)
		return "cert and key go together";
	return NULL;
}

int config_parse(struct bridge_config *config, const struct command *command, int argc, char **argv)
{
	struct line_arguments args = { 0 };
	const char *file = NULL;
	const char *auth_file = NULL;
	const char *wrong = NULL;
	int option;

	*config = (struct bridge_config){ .longest = LONGEST, .give_up_ns = -1 };
	while (!wrong && (option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == '?')
			return hint(command); /* getopt has complained */
		if (option == 'h')
			return print(command->help) ? STATUS_FAILED : -1;
		if (option == CONFIG)
			file = optarg;
		else if (option == AUTH)
			auth_file = optarg;
		else if (!line_option(&args, option, &wrong))
			wrong = process_option(config, option);
	}
	if (!wrong && optind < argc)
		wrong = "all arguments are options; --from and --to name the pipe";
	if (!wrong && file && (args.from || args.to))
		wrong = "--config names the pipes, so --from and --to do not go with it";
	if (!wrong && !file)
		wrong = add_line(config, &args);
	if (wrong)
		return complain_usage(command, "bridge: %s", wrong);
	if (auth_file)
		wrong = auth_read_file(&config->auth, auth_file);
	if (wrong) {
		complain("%s: %s", auth_file, wrong);
		return STATUS_FAILED;
	}
	auth_read_environment(&config->auth);
	wrong = check_auth(&config->auth);
	if (wrong)
		return complain_usage(command, "bridge: %s", wrong);
	return file ? read_file(config, file) : 0;
}

void config_free(struct bridge_config *config)
{
	for (unsigned i = 0; i < config->n; i++)
		free_line(&config->lines[i]);
	free(config->lines);
}
