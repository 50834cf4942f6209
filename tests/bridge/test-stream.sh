#!/bin/bash
# SPDX-License-Identifier: MIT
# bufpipe bridge over JetStream: test-stream.sh PATH-OF-BUFPIPE PATH-OF-PUMP [TEST...]

set -u
# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"
# shellcheck disable=SC2034 # for begin
with_streams=yes

many_small_messages()
{
	round_trip 200000 64
}

messages_of_many_lengths()
{
	round_trip 2000 -600000
}

messages_longer_than_the_pipe()
{
	round_trip 12 -8000000
	round_trip 1 67108864
	round_trip 20 -3000000 --buffer 64K
}

empty_stream()
{
	round_trip 0 8
	expect_said to.out '^received 0 '
}

# What was sent while nobody received is kept for receivers that come later; each consumer gets all of it once.
late_consumers()
{
	local each from_url="$url/$test?stream=$test"

	bridge near --from "$name-a" --to "$from_url&create" --once
	program from send "$name-a" 20000 -500
	finish "$from"
	finish "$near"
	expect_status 0 $? "--once: $(cat near.err)"
	for each in b c; do
		bridge far --from "$from_url&consumer=$each" --to "$name-$each"
		program to recv "$name-$each"
		finish "$to"
		expect_received to.out 20000
		stop_bridge "$far"
	done
	# A consumer that got everything gets nothing more.
	bridge far --from "$from_url&consumer=b" --to "$name-b"
	program to recv "$name-b"
	sleep 1
	stop_bridge "$far"
	finish "$to"
	expect_said to.out '^received 0 '
}

# A bridge can begin at the first message, at a number, at the next message or at a time, and repeat the original pace.
replay()
{
	local each from_url="$url/$test?stream=$test" middle since span

	bridge near --from "$name-a" --to "$from_url&create" --once
	# So long that each frame has one message, and the numbers in the stream are those of the messages.
	program from send "$name-a" 20 40000 50000
	sleep 0.5
	middle=$(date -u +%Y-%m-%dT%H:%M:%SZ)
	finish "$from"
	finish "$near"
	for each in 1 2; do
		bridge far --from "$from_url&start=first" --to "$name-b" --once
		program to recv "$name-b"
		finish "$to"
		finish "$far"
		expect_status 0 $? "--once: $(cat far.err)"
		expect_received to.out 20
	done
	bridge far --from "$from_url&start=6" --to "$name-b" --once
	program to recv "$name-b"
	finish "$to"
	finish "$far"
	expect_said to.out '^received 15 first 5 last 19 missing 0 '
	# Nothing of what is in the stream already.
	bridge far --from "$from_url&start=new" --to "$name-c"
	program to recv "$name-c"
	sleep 1
	stop_bridge "$far"
	finish "$to"
	expect_said to.out '^received 0 '
	bridge far --from "$from_url&start=$middle" --to "$name-b" --once
	program to recv "$name-b"
	finish "$to"
	finish "$far"
	expect_said to.out ' last 19 missing 0 '
	bridge far --from "$from_url&start=first" --to "$name-b" --once --rate original
	program to recv "$name-b"
	since=$(date +%s%N)
	finish "$to"
	finish "$far"
	expect_received to.out 20
	since=$((($(date +%s%N) - since) / 1000000))
	span=$(stream_span)
	[ "$since" -ge $((span - 20)) ] || fail "the replay took $since ms, the recording $span ms"
}

# How many ms passed between the first and the last message of this stream, by the clock of the server.
stream_span()
{
	local answer first last

	answer=$(stream_info)
	first=${answer#*\"first_ts\":\"}
	last=${answer#*\"last_ts\":\"}
	echo $((($(date -d "${last%%\"*}" +%s%N) - $(date -d "${first%%\"*}" +%s%N)) / 1000000))
}

duplex()
{
	open_bridges --duplex
	program answer echo "$name-b"
	program ask ping "$name-a" 500
	finish "$ask"
	expect_status 0 $? "$(cat ask.err)"
	finish "$answer"
	close_bridges
}

# The members of a queue share the messages of a stream: each message goes to one of them.
queue_shares_messages()
{
	bridge near --from "$name-a" --to "$url/$test$query" --once
	bridge far1 --from "$url/$test$query&queue=workers" --to "$name-b"
	bridge far2 --from "$url/$test$query&queue=workers" --to "$name-c"
	program to1 recv "$name-b" 1000
	program to2 recv "$name-c" 1000
	sleep 1
	program from send "$name-a" 1000 100 1000
	finish "$from"
	finish "$near"
	eventually all_shared 1000
	stop_bridge "$far1"
	stop_bridge "$far2"
	{ [ "$(counted far1 messages)" -gt 0 ] && [ "$(counted far2 messages)" -gt 0 ]; } || fail "one got nothing"
	[ $(($(counted far1 messages) + $(counted far2 messages))) -eq 1000 ] || fail "$(cat far1.err far2.err)"
}

# The end of the stream ends one of the two programs.  The other may still have messages to receive.
all_shared()
{
	! is_running "$to1" || ! is_running "$to2"
}

# Two bridges publish into one stream.  The messages of each stay in order, and none is lost.
two_publishers()
{
	local each

	bridge far --from "$url/$test$query" --to "$name-b"
	bridge near1 --from "$name-a" --to "$url/$test$query"
	bridge near2 --from "$name-c" --to "$url/$test$query"
	program to recv "$name-b" 0 8000
	program from1 send "$name-a" 4000 -500 100
	program from2 send "$name-c" 4000 -500 100 1000000
	finish "$from1"
	finish "$from2"
	is_running "$to" && eventually has_bytes to.out 10
	expect_said to.out '^received 8000 .* duplicated 0 .* corrupted 0'
	for each in $near1 $near2 $far; do
		stop_bridge "$each"
	done
	[ "$(counted far lost)" = 0 ] || fail "lost: $(cat far.err)"
}

# Ten consumers at once.  Each gets everything.
ten_consumers()
{
	local i receivers=()

	bridge near --from "$name-a" --to "$url/$test$query" --once
	program from send "$name-a" 5000 -1000
	for i in 0 1 2 3 4 5 6 7 8 9; do
		bridge "far$i" --from "$url/$test$query&consumer=c$i" --to "$name-b$i" --once
		"$pump" recv "$name-b$i" >"to$i.out" &
		receivers+=($!)
	done
	for i in 0 1 2 3 4 5 6 7 8 9; do
		finish "${receivers[$i]}"
		expect_received "to$i.out" 5000
	done
	finish "$near"
}

# A client of NATS that is no bridge can send to a program.
message_of_no_bridge()
{
	bridge far --from "$url/$test$query" --to "$name-b"
	"$pump" recv "$name-b" 0 1 >to.out &
	to=$!
	eventually has_stream
	exec 7<>"/dev/tcp/127.0.0.1/$port"
	# The first message of pump.c with 8 bytes: the number 0.
	printf 'CONNECT {"verbose":false}\r\nPUB %s 8\r\n\0\0\0\0\0\0\0\0\r\nPING\r\n' "$test" >&7
	finish "$to"
	exec 7>&-
	expect_received to.out 1
	stop_bridge "$far"
}

mistakes()
{
	timeout 60 "$bufpipe" bridge --from "$name-a" --to "$url/$test?stream=absent" 2>err
	expect_status 1 $? "a stream that is not there"
	expect_said err 'no stream absent'
	bridge near --from "$name-a" --to "$url/$test?stream=$test&create" --once
	program from send "$name-a" 1 8
	finish "$near"
	program to recv "$name-b"
	timeout 60 "$bufpipe" bridge --from "$url/other?stream=$test" --to "$name-b" 2>err
	expect_status 1 $? "a subject that the stream does not have"
	expect_said err 'does not collect the subject other'
}

# Only one bridge at a time serves a pipe, because both would publish under the same session.
state_is_locked()
{
	bridge near --from "$name-a" --to "$url/$test$query"
	# It listens after it has locked its state.
	eventually listens "${name#@}-a"
	timeout 20 "$bufpipe" bridge --from "$name-a" --to "$url/$test$query" 2>err
	expect_status 1 $? "a second one"
	expect_said err 'another bridge'
	stop_bridge "$near"
}

start_server
[ $# -le 2 ] || run_tests "${@:3}"
run_tests many_small_messages messages_of_many_lengths messages_longer_than_the_pipe empty_stream late_consumers replay duplex \
	queue_shares_messages two_publishers ten_consumers message_of_no_bridge mistakes state_is_locked
