/* SPDX-License-Identifier: MIT */
/* What a server tells of a message of a stream, in the subject to acknowledge it. */
#include "in.h"

#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 12

/*
 * $JS.ACK.STREAM.CONSUMER.DELIVERIES.SEQUENCE.CONSUMER-SEQUENCE.TIME.PENDING;
 * or, from servers that know domains, with DOMAIN.ACCOUNT after ACK, and maybe
 * a token at the end.
 */
bool in_stream_place(natsMsg *msg, uint64_t *sequence, uint64_t *time_ns)
{
	const char *tokens[TOKENS_MAX];
	const char *reply = natsMsg_GetReply(msg);
	unsigned n = 0;
	unsigned at;

	if (!reply || strncmp(reply, "$JS.ACK.", 8) != 0)
		return false;
	while (reply && n < TOKENS_MAX) {
		tokens[n++] = reply;
		reply = strchr(reply, '.');
		if (reply)
			reply++;
	}
	if (n != 9 && n < 11)
		return false;
	at = n == 9 ? 5 : 7;
	*sequence = strtoull(tokens[at], NULL, 10);
	*time_ns = strtoull(tokens[at + 2], NULL, 10);
	return *sequence > 0;
}
