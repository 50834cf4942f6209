#!/bin/bash
# SPDX-License-Identifier: MIT
# The end of a stream arrives over core NATS whatever is lost on the way.  So no
# receiving program waits for ever: test-end.sh PATH-OF-BUFPIPE PATH-OF-PUMP [TEST...]

set -u
# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"

# received_at_least BRIDGE COUNT: whether a bridge with --progress has reported so many messages.
received_at_least()
{
	[ "$(counted "$1" messages || echo 0)" -ge "$2" ] 2>/dev/null
}

# Stops the server.  Whatever it and the sockets of its clients contain now, or get later, is lost when it is killed.
stop_forwarding()
{
	kill -STOP "$server"
}

lose_all()
{
	stop_server KILL
	start_server
}

# send_and_lose COUNT PAUSE-US ARRIVE: sends COUNT messages.  When ARRIVE of them have arrived, the server stops forwarding, so
# others and the end of the stream will be lost.
send_and_lose()
{
	open_bridges --progress
	program to recv "$name-b"
	program from send "$name-a" "$1" 100 "$2"
	eventually received_at_least far "$3"
	stop_forwarding
	finish "$from"
	expect_status 0 $? 'the sender'
}

# The end is lost, and the last messages before it.
last_messages_and_end_lost()
{
	send_and_lose 500 10000 10
	lose_all
	finish "$to"
	expect_status 0 $? 'the receiver'
	close_bridges
	expect_counted 500
	[ "$(counted far lost)" -gt 0 ] || fail "nothing was lost: $(cat far.err)"
}

# Only the end is lost.
only_end_lost()
{
	send_and_lose 1 4000000 1
	lose_all
	finish "$to"
	expect_status 0 $? 'the receiver'
	# The next receiver gets the whole of the next stream.
	program to recv "$name-b"
	program from send "$name-a" 1000 100
	finish "$from"
	finish "$to"
	expect_received to.out 1000
	close_bridges
	[ "$(counted far lost)" = 0 ] || fail "lost: $(cat far.err)"
}

# The stream has no message, and its end is lost.
end_of_empty_stream_lost()
{
	open_bridges --progress
	program to recv "$name-b"
	# When a message has arrived, the sending bridge knows that there is a receiving one.
	program from send "$name-a" 1 100
	finish "$from"
	finish "$to"
	program to recv "$name-b"
	eventually has_bridge "$to"
	stop_forwarding
	program from send "$name-a" 0 8
	finish "$from"
	lose_all
	finish "$to"
	expect_said to.out '^received 0 '
	close_bridges
}

# Both directions of a duplex pipe end.  One end, or both, may have arrived before the server stops.
ends_of_duplex_lost()
{
	open_bridges --duplex --progress
	program answer echo "$name-b"
	program ask ping "$name-a" 20 100000
	eventually grep -q 'received: [1-9]' far.err
	finish "$ask"
	stop_forwarding
	lose_all
	finish "$answer"
	expect_status 0 $? 'the program that answers'
	close_bridges
}

# One bridge serves several pipes, and the end of each is lost.
ends_of_many_pipes_lost()
{
	local i receivers=() senders=()

	for i in 1 2 3; do
		echo "--from $name-a$i --to $url/$test.$i"
		echo "--from $url/$test.$i --to $name-b$i"
	done >pipes
	bridge all --config pipes --progress
	for i in 1 2 3; do
		"$pump" recv "$name-b$i" >"to$i.out" &
		receivers+=($!)
		"$pump" send "$name-a$i" 300 100 10000 >/dev/null &
		senders+=($!)
	done
	for i in 1 2 3; do
		eventually grep -q "$test.$i -> .* received: [1-9][0-9]" all.err
	done
	stop_forwarding
	for i in "${senders[@]}"; do
		finish "$i"
	done
	lose_all
	for i in "${receivers[@]}"; do
		finish "$i"
		expect_status 0 $? 'a receiver'
	done
	stop_bridge "$all"
}

# Each member of a queue learns of the end.
end_for_queue_lost()
{
	local i

	for i in 1 2; do
		bridge "far$i" --from "$url/$test?queue=workers" --to "$name-b$i" --progress
	done
	bridge near --from "$name-a" --to "$url/$test" --progress
	program to1 recv "$name-b1"
	program to2 recv "$name-b2"
	program from send "$name-a" 600 4000 5000
	eventually received_at_least far1 1
	eventually received_at_least far2 1
	stop_forwarding
	finish "$from"
	lose_all
	finish "$to1"
	expect_status 0 $? 'the first receiver'
	finish "$to2"
	expect_status 0 $? 'the second receiver'
	stop_bridge "$near"
	stop_bridge "$far1"
	stop_bridge "$far2"
}

# killed_in_call NEAR-OR-FAR CALL WHEN EVERY: the worker of that bridge dies at the call.
killed_in_call()
{
	local _ count=0 subject=$url/$test.$2.$3

	if [ "$1" = near ]; then
		bridge far --from "$subject" --to "$name-b"
		bridge_to_kill near "$2,$3,$4" --from "$name-a" --to "$subject"
	else
		bridge_to_kill far "$2,$3,$4" --from "$subject" --to "$name-b"
		bridge near --from "$name-a" --to "$subject"
	fi
	for _ in 1 2 3; do
		program to recv "$name-b"
		program from send "$name-a" 100 100
		finish "$from"
		finish "$to"
		expect_status 0 $? "$2 $3"
		expect_said to.out 'duplicated 0 reordered 0 corrupted 0'
		count=$((count + $(received)))
	done
	close_bridges
	# What a worker had in its memory is lost with it, and reported.
	[ $((count + $(counted far lost))) -eq 300 ] || fail "$2 $3: received $count: $(cat far.err)"
	grep -q 'killed by signal 9' near.err far.err || fail "$2 $3: nobody was killed"
	rm -f ./*.err
}

# A worker dies when it publishes the end of a stream, or when it ends the stream of the receiving program.
killed_workers()
{
	has_killer || return
	killed_in_call near end before 1
	killed_in_call near end after 1
	killed_in_call far shutdown before 2
	killed_in_call far shutdown after 2
}

# A sending bridge gets SIGTERM just after its program has ended.  It still publishes the end.
bridge_stopped_at_once()
{
	local _

	bridge far --from "$url/$test" --to "$name-b"
	for _ in 1 2 3 4 5; do
		bridge near --from "$name-a" --to "$url/$test"
		program to recv "$name-b"
		program from send "$name-a" 20000 100
		finish "$from"
		stop_bridge "$near"
		finish "$to"
		expect_status 0 $? 'the receiver'
		expect_received to.out 20000
	done
	stop_bridge "$far"
}

# A sending bridge stops in the middle of a stream.  The next bridge continues the stream, and ends it.
next_bridge_ends_the_stream()
{
	local round

	open_bridges --progress
	program to recv "$name-b"
	program from send "$name-a" 400 100 10000
	for round in 1 2; do
		eventually received_at_least far $((round * 50))
		stop_bridge "$near"
		bridge near --from "$name-a" --to "$url/$test" --progress
	done
	finish "$from"
	finish "$to"
	expect_status 0 $? 'the receiver'
	expect_said to.out ' last 399 missing 0 '
	close_bridges
}

# The same after a bridge that was killed, and so could not announce that it leaves.
killed_bridge()
{
	open_bridges --progress
	program to recv "$name-b"
	program from send "$name-a" 400 100 10000
	eventually received_at_least far 50
	# shellcheck disable=SC2046 # words
	kill -KILL "$near" $(worker_of "$near")
	wait "$near" 2>/dev/null
	bridge near --from "$name-a" --to "$url/$test" --progress
	finish "$from"
	finish "$to"
	expect_status 0 $? 'the receiver'
	expect_said to.out ' last 399 '
	close_bridges
}

# The server does not come back.  The sending bridge reports that it could not finish, and exits.
server_gone()
{
	send_and_lose 500 10000 10
	stop_server KILL
	kill "$near"
	finish "$near"
	expect_status 1 $? 'a bridge that could not finish'
	expect_said near.err 'not all was finished'
	start_server
	stop_bridge "$far"
	finish "$to"
	expect_status 0 $? 'the receiver'
}

start_server
[ $# -le 2 ] || run_tests "${@:3}"
run_tests last_messages_and_end_lost only_end_lost end_of_empty_stream_lost ends_of_duplex_lost ends_of_many_pipes_lost end_for_queue_lost \
	killed_workers bridge_stopped_at_once next_bridge_ends_the_stream killed_bridge server_gone
