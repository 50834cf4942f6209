#!/bin/bash
# SPDX-License-Identifier: MIT
# The end of a stream over core NATS arrives whatever is lost on the way, so no
# receiving program waits for ever: test-end.sh PATH-OF-BUFPIPE PATH-OF-PUMP [TEST...]

set -u
# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"

open_bridges()
{
	bridge far --from "$url/$test" --to "$name-b" --progress
	bridge near --from "$name-a" --to "$url/$test" --progress
}

close_bridges()
{
	stop_bridge "$near"
	stop_bridge "$far"
}

# received_at_least BRIDGE COUNT: whether the bridge has reported so many
received_at_least()
{
	[ "$(counted "$1" messages || echo 0)" -ge "$2" ] 2>/dev/null
}

# Everything that this program sent has arrived or is reported as lost, and its stream has ended.
expect_counted()
{
	local received

	expect_said to.out 'doubled 0 disordered 0 damaged 0'
	received=$(sed -n 's/^received \([0-9]*\) .*/\1/p' to.out)
	[ $((received + $(counted far lost))) -eq "$1" ] || fail "$(cat to.out far.err)"
	echo "received $received, lost $(counted far lost)"
}

# Messages in a stopped server, and in the sockets of its clients, are lost when the server is killed.
lose_what_follows()
{
	kill -STOP "$server"
}

lose_it()
{
	stop_server KILL
	start_server
}

# The last messages are lost, and with them the end.
lost_with_messages()
{
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 500 100 10000
	eventually received_at_least far 10
	lose_what_follows
	finish "$from"
	expect_status 0 $? 'the sender'
	lose_it
	finish "$to"
	expect_status 0 $? 'the receiver'
	close_bridges
	expect_counted 500
	[ "$(counted far lost)" -gt 0 ] || fail "nothing was lost: $(cat far.err)"
}

# The end alone is lost.
lost_alone()
{
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 1 100 4000000
	eventually received_at_least far 1
	lose_what_follows
	finish "$from"
	expect_status 0 $? 'the sender'
	lose_it
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

# A stream without messages, only with an end.
lost_of_empty_stream()
{
	open_bridges
	program to recv "$name-b"
	# The sender knows the receiving bridge only when messages arrive.
	program from send "$name-a" 1 100
	finish "$from"
	finish "$to"
	program to recv "$name-b"
	eventually has_bridge "$to"
	lose_what_follows
	program from send "$name-a" 0 8
	finish "$from"
	lose_it
	finish "$to"
	expect_said to.out '^received 0 '
	close_bridges
}

has_bridge()
{
	"$bufpipe" list --pid "$1" | grep -q ' bufpip'
}

# Both directions of a duplex pipe. One or both of the ends may arrive before the server stops.
lost_in_duplex()
{
	bridge near --duplex --from "$name-a" --to "$url/$test" --progress
	bridge far --duplex --from "$url/$test" --to "$name-b" --progress
	program answer echo "$name-b"
	program ask ping "$name-a" 20 100000
	eventually grep -q 'received: [1-9]' far.err
	finish "$ask"
	lose_what_follows
	lose_it
	finish "$answer"
	expect_status 0 $? 'the program that answers'
	stop_bridge "$near"
	stop_bridge "$far"
}

# One pipe of a configuration.
lost_of_many()
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
	lose_what_follows
	for i in "${senders[@]}"; do
		finish "$i"
	done
	lose_it
	for i in "${receivers[@]}"; do
		finish "$i"
		expect_status 0 $? 'a receiver'
	done
	stop_bridge "$all"
}

# Each member of a queue finds the end, at the latest before the next stream.
lost_in_queue()
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
	lose_what_follows
	finish "$from"
	lose_it
	finish "$to1"
	expect_status 0 $? 'the first receiver'
	finish "$to2"
	expect_status 0 $? 'the second receiver'
	stop_bridge "$near"
	stop_bridge "$far1"
	stop_bridge "$far2"
}

# killed_in_call BRIDGE CALL WHEN EVERY: the worker of that bridge is killed there.
killed_in_call()
{
	local _ received=0 some

	bridge_with_killer far "$1" "$2,$3,$4" --from "$url/$test.$2.$3" --to "$name-b"
	bridge_with_killer near "$1" "$2,$3,$4" --from "$name-a" --to "$url/$test.$2.$3"
	for _ in 1 2 3; do
		program to recv "$name-b"
		program from send "$name-a" 100 100
		finish "$from"
		finish "$to"
		expect_status 0 $? "$2 $3"
		expect_said to.out 'doubled 0 disordered 0 damaged 0'
		some=$(sed -n 's/^received \([0-9]*\) .*/\1/p' to.out)
		received=$((received + ${some:-0}))
	done
	close_bridges
	# Messages in the memory of a worker are lost with it, and reported.
	[ $((received + $(counted far lost))) -eq 300 ] || fail "$2 $3: received $received: $(cat far.err)"
	grep -q 'killed by signal 9' near.err far.err || fail "$2 $3: nobody was killed"
	rm -f ./*.err
}

# bridge_with_killer NAME WHICH KILL OPTION...
bridge_with_killer()
{
	local each=$1 which=$2 kill=$3

	shift 3
	[ "$each" != "$which" ] || export LD_PRELOAD=$BRIDGE_KILLER BUFPIPE_TEST_KILL=$kill
	bridge "$each" "$@"
	unset LD_PRELOAD BUFPIPE_TEST_KILL
}

# A worker is killed when it publishes the end, or when it passes the end on.
killed_workers()
{
	if [ -z "${BRIDGE_KILLER-}" ]; then
		echo "skipped: nothing to preload"
		return
	fi
	killed_in_call near end before 1
	killed_in_call near end after 1
	killed_in_call far shutdown before 2
	killed_in_call far shutdown after 2
}

# A bridge that is told to stop when its program has just ended passes the end on.
stopped_at_once()
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

# A bridge that stops leaves its program's stream to the next one, which ends it.
next_bridge_ends()
{
	local round

	open_bridges
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

# The same after a bridge that was killed, and so could not say that it leaves: it is silent.
killed_bridge()
{
	open_bridges
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

# The server does not come back: the sending bridge says that it could not finish, and ends.
server_gone()
{
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 500 100 10000
	eventually received_at_least far 10
	lose_what_follows
	finish "$from"
	stop_server KILL
	kill "$near"
	finish "$near"
	expect_status 1 $? 'what could not be told'
	expect_said near.err 'not all was finished'
	start_server
	stop_bridge "$far"
	finish "$to"
	expect_status 0 $? 'the receiver'
}

start_server
[ $# -le 2 ] || run_tests "${@:3}"
run_tests lost_with_messages lost_alone lost_of_empty_stream lost_in_duplex lost_of_many lost_in_queue killed_workers stopped_at_once \
	next_bridge_ends killed_bridge server_gone
