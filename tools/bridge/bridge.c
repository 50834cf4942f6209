/* SPDX-License-Identifier: MIT */
/* The subcommand: bufpipe bridge. */
#include <stdio.h>

#include "config.h"
#include "keeper.h"

static int run(int argc, char **argv)
{
	struct bridge_config config;
	int status = config_parse(&config, &command_bridge, argc, argv);

	if (status != 0)
		return status < 0 ? 0 : status;
	/* Whole lines, as several processes share the stream. */
	setvbuf(stderr, NULL, _IOLBF, BUFSIZ);
	status = keeper_run(&config);
	config_free(&config);
	return status;
}

const struct command command_bridge = {
	.name = "bridge",
	.summary = "carry a pipe to other machines, through a NATS server",
	.help = "usage: bufpipe bridge --from PIPE --to nats://HOST[:PORT]/SUBJECT[?...] [OPTION...]\n"
		"       bufpipe bridge --from nats://HOST[:PORT]/SUBJECT[?...] --to PIPE [OPTION...]\n"
		"       bufpipe bridge --config FILE [OPTION...]\n\n"
		"Carries messages between a pipe here and a subject of a NATS server; another\n"
		"bridge elsewhere carries them on.  PIPE is @name, /path or ./path.  Behind the\n"
		"subject may stand, as in ?stream=ORDERS&create:\n\n"
		"  stream=NAME    JetStream: kept on disk, delivered exactly once and in order\n"
		"  create         make the stream if it is not there; max-bytes=SIZE limits it\n"
		"  consumer=NAME  how the server knows this receiver\n"
		"  queue=NAME     the receivers of one queue share the messages\n"
		"  start=WHERE    replay: first, new, a number, or 2026-01-31T12:00:00Z\n"
		"  nohold         publish also while no bridge receives\n\n"
		"  --listen       wait at PIPE for the program (the default)\n"
		"  --connect      connect to the program that listens at PIPE\n"
		"  --duplex       both directions, over SUBJECT.there and SUBJECT.back\n"
		"  --buffer SIZE  the pipe holds SIZE bytes (1M)\n"
		"  --rate original  replay in the rhythm of the recording\n"
		"  --config FILE  many pipes: in each line the options above\n"
		"  --auth FILE    lines NAME=VALUE: user, password, token, creds, nkey, seed\n"
		"  --tls-ca, --tls-cert, --tls-key FILE\n"
		"  --state DIR    where it is kept what was delivered\n"
		"  --longest SIZE refuse longer messages (1G)\n"
		"  --give-up SECONDS  end when no server is there so long (try for ever)\n"
		"  --once         end after one stream\n"
		"  --any-user     let the program belong to any user\n"
		"  --progress     tell each second how it goes, not each minute\n\n"
		"See bufpipe-bridge(1).\n",
	.run = run,
};
