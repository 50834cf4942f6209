#!/bin/bash
# SPDX-License-Identifier: MIT
# bufpipe bridge over core NATS: test-core.sh PATH-OF-BUFPIPE PATH-OF-PUMP [TEST...]

set -u
# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"

many_small_messages()
{
	round_trip 200000 64
}

messages_of_many_lengths()
{
	round_trip 3000 -2000
	round_trip 300 -600000
}

# Messages longer than the max_payload of the server, some of them longer than the pipe.
messages_longer_than_the_pipe()
{
	round_trip 12 -8000000
	round_trip 2 67108864
	round_trip 20 -3000000 --buffer 64K
}

# Lengths at which something changes, and their neighbours.
lengths_around_each_limit()
{
	local len

	for len in 0 1 7 8 31948 31949 262143 262144 262145 288000 524288 1048576 1048577; do
		round_trip 3 "$len"
	done
}

empty_stream()
{
	round_trip 0 8
	expect_said to.out '^received 0 '
}

# A bridge with --connect connects to the pipe of another bridge, and connects again when that bridge was restarted.
connecting_bridge()
{
	local each _

	bridge near --from "$name-a" --to "$url/$test"
	bridge far --from "$url/$test" --to "$name-b" --connect
	bridge last --from "$url/$test.more" --to "$name-c"
	for _ in 1 2; do
		bridge more --from "$name-b" --to "$url/$test.more"
		program to recv "$name-c"
		program from send "$name-a" 1000 -5000
		finish "$from"
		finish "$to"
		expect_received to.out 1000
		stop_bridge "$more"
	done
	for each in $near $far $last; do
		stop_bridge "$each"
	done
}

# A service manager passes the listening socket to a bridge.
passed_socket()
{
	python3 - "$PWD/socket" "$bufpipe" bridge --from systemd: --to "$url/$test" 2>near.err <<'EOF' &
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)  # if the listener was descriptor 3 already
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
EOF
	near=$!
	bridge far --from "$url/$test" --to "$name-b"
	program to recv "$name-b"
	eventually test -S socket
	program from send ./socket 100 64
	finish "$from"
	finish "$to"
	expect_received to.out 100
	close_bridges
	rm socket
}

# bufpipe list shows that a bridge is at the other end of a pipe.
listed_bridge()
{
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 1000000000 100 1000
	eventually has_bridge "$from"
	eventually has_bridge "$to"
	kill "$from"
	finish "$to"
	close_bridges
}

duplex()
{
	open_bridges --duplex
	program answer echo "$name-b"
	program ask ping "$name-a" 2000
	finish "$ask"
	expect_status 0 $? "$(cat ask.err)"
	expect_said ask.out 'echoed 2000'
	finish "$answer"
	close_bridges
}

# Each bridge that subscribes gets everything.
each_subscriber_gets_everything()
{
	bridge far1 --from "$url/$test" --to "$name-b"
	bridge far2 --from "$url/$test" --to "$name-c"
	program to1 recv "$name-b"
	program to2 recv "$name-c"
	# The sender begins as soon as it knows of one receiver.  So both must have subscribed before.
	eventually has_subscribers "$test" 2
	bridge near --from "$name-a" --to "$url/$test" --once
	program from send "$name-a" 50000 -300
	finish "$from"
	finish "$near"
	expect_status 0 $? "--once: $(cat near.err)"
	finish "$to1"
	finish "$to2"
	expect_received to1.out 50000
	expect_received to2.out 50000
	stop_bridge "$far1"
	stop_bridge "$far2"
}

# A bridge that subscribes to a wildcard gets the messages of all senders.
wildcard()
{
	two_senders 2000 -500
}

# The chunks of two long messages come interleaved.
wildcard_with_long_messages()
{
	two_senders 100 -700000 --buffer 4M
}

# two_senders COUNT SIZE [OPTION...]
two_senders()
{
	local each count=$1 size=$2

	shift 2
	bridge far --from "$url/$test.*" --to "$name-b" --progress "$@"
	bridge near1 --from "$name-a" --to "$url/$test.one"
	bridge near2 --from "$name-c" --to "$url/$test.two"
	program to recv "$name-b"
	program from1 send "$name-a" "$count" "$size"
	program from2 send "$name-c" "$count" "$size" 0 1000000
	eventually all_came $((2 * count))
	finish "$from1"
	finish "$from2"
	for each in $near1 $near2 $far; do
		stop_bridge "$each"
	done
	finish "$to"
	[ "$(counted far lost)" = 0 ] || fail "lost: $(cat far.err)"
}

# If one sender ends before the other begins, the stream of the receiving program ends.  Then another program receives the
# rest.
all_came()
{
	is_running "$to" || program to recv "$name-b"
	[ "$(counted far messages)" = "$1" ]
}

# The members of a queue share the messages: each message goes to one of them.
queue_shares_messages()
{
	bridge far1 --from "$url/$test?queue=workers" --to "$name-b"
	bridge far2 --from "$url/$test?queue=workers" --to "$name-c"
	program to1 recv "$name-b"
	program to2 recv "$name-c"
	eventually has_subscribers "$test" 2
	bridge near --from "$name-a" --to "$url/$test" --once
	program from send "$name-a" 20000 100 20
	finish "$from"
	finish "$near"
	expect_status 0 $? "--once: $(cat near.err)"
	stop_bridge "$far1"
	stop_bridge "$far2"
	finish "$to1"
	finish "$to2"
	[ $(($(counted far1 messages) + $(counted far2 messages))) -eq 20000 ] ||
		fail "$(cat far1.err far2.err)"
	{ [ "$(counted far1 messages)" -gt 0 ] && [ "$(counted far2 messages)" -gt 0 ]; } || fail "one got nothing"
}

# While the receiver is slow, the sender waits, and nothing is lost.
slow_receiver_delays_the_sender()
{
	open_bridges --buffer 64K
	program to recv "$name-b" 1000
	program from send "$name-a" 3000 16384
	sleep 1
	is_running "$from" || fail "the sender did not wait"
	finish "$from"
	finish "$to"
	close_bridges
	expect_received to.out 3000
	[ "$(counted far lost)" = 0 ] || fail "lost: $(cat far.err)"
}

# A client of NATS that is no bridge does not wait for a slow receiver.  What libnats drops then is reported.
dropped_messages_are_reported()
{
	local _

	bridge far --from "$url/$test" --to "$name-b"
	program to recv "$name-b" 1000000
	eventually has_subscribers "$test" 1
	exec 7<>"/dev/tcp/127.0.0.1/$port"
	printf 'CONNECT {"verbose":false}\r\n' >&7
	for _ in $(seq 60); do
		printf 'PUB %s 1000000\r\n' "$test" >&7
		head -c 1000000 /dev/zero >&7
		printf '\r\n' >&7
	done
	printf 'PING\r\n' >&7
	eventually grep -q 'messages come faster than the program takes them: [1-9][0-9]* were dropped' far.err
	exec 7>&-
	kill -KILL "$to"
	kill "$far"
	finish "$far"
}

# The same bridges serve one pair of programs after the other.
programs_come_again()
{
	open_bridges
	for _ in 1 2 3; do
		program to recv "$name-b"
		program from send "$name-a" 1000 -1000
		finish "$from"
		finish "$to"
		expect_received to.out 1000
	done
	close_bridges
	[ "$(counted far lost)" = 0 ] || fail "lost: $(cat far.err)"
}

# A receiving program leaves.  What was in its pipe is lost and reported, and the next program gets the rest.
receiver_leaves()
{
	leave_after 10 100000 100
}

receiver_leaves_long_messages()
{
	leave_after 2 60 700000 --buffer 4M
}

# leave_after TAKEN COUNT SIZE [OPTION...]
leave_after()
{
	local rest lost taken=$1 count=$2 size=$3

	shift 3
	bridge far --from "$url/$test" --to "$name-b" "$@"
	bridge near --from "$name-a" --to "$url/$test"
	program to recv "$name-b" 0 "$taken"
	program from send "$name-a" "$count" "$size"
	finish "$to"
	expect_received to.out "$taken"
	program to recv "$name-b"
	finish "$from"
	finish "$to"
	close_bridges
	expect_said to.out " last $((count - 1)) missing 0 duplicated 0 reordered 0 corrupted 0"
	rest=$(received)
	lost=$(counted far lost)
	[ $((taken + lost + rest)) -eq "$count" ] || fail "$taken, then lost $lost, then $rest: $(cat far.err)"
	[ "$lost" -eq 0 ] || expect_said far.err 'were in the pipe when its program left'
}

# When a receiving bridge is killed and nobody starts it again, only the sending bridge can report that messages may be
# missing.
killed_receiving_bridge()
{
	local received taken doubtful

	bridge far --from "$url/$test" --to "$name-b"
	bridge near --from "$name-a" --to "$url/$test" --progress
	program to recv "$name-b" 1000
	program from send "$name-a" 1000000 1000
	eventually grep -q 'sent: [1-9]' near.err
	# shellcheck disable=SC2046 # words
	kill -KILL "$far" $(worker_of "$far")
	finish "$to"
	eventually grep -q 'it has not confirmed the last' near.err
	eventually grep -q 'sent: .* [1-9][0-9]* in doubt' near.err
	received=$(received)
	taken=$(counted near messages)
	doubtful=$(counted near 'in doubt')
	[ "$doubtful" -ge $((taken - received)) ] || fail "took $taken, of which $received arrived: $(cat near.err)"
}

# Everything that the sending bridge took before SIGTERM arrives.
sigterm_delivers()
{
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 1000000000 100
	some_time 50 100
	stop_bridge "$near"
	kill "$from"
	eventually test "$(counted near messages)" -gt 0
	sleep 0.5
	stop_bridge "$far"
	finish "$to"
	expect_received to.out "$(counted near messages)"
}

# The server is killed and started again.  Each message that did not arrive is reported.
restarted_server()
{
	local messages

	messages=$(some 30000 10000)
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" "$messages" -400 100
	restart_server
	finish "$from"
	finish "$to"
	close_bridges
	expect_counted "$messages"
}

# The workers of both bridges are killed again and again.  The pipes of the programs do not break.
killed_workers()
{
	local messages

	messages=$(some 60000 20000)
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" "$messages" -400 50
	kill_workers "$(some 10 4)" 10 60
	finish "$from"
	finish "$to"
	close_bridges
	expect_said from.out 'broken 0'
	expect_counted "$messages"
}

# The server hangs for a while.  Each message that it lost is reported.
stopped_server()
{
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 20000 -400 100
	eventually has_subscribers "$test" 1
	sleep 0.3
	kill -STOP "$server"
	sleep 2
	kill -CONT "$server"
	finish "$from"
	finish "$to"
	close_bridges
	expect_counted 20000
}

start_server
[ $# -le 2 ] || run_tests "${@:3}"
run_tests many_small_messages messages_of_many_lengths messages_longer_than_the_pipe lengths_around_each_limit empty_stream connecting_bridge \
	passed_socket listed_bridge duplex each_subscriber_gets_everything wildcard wildcard_with_long_messages queue_shares_messages slow_receiver_delays_the_sender \
	dropped_messages_are_reported programs_come_again receiver_leaves receiver_leaves_long_messages killed_receiving_bridge sigterm_delivers \
	restarted_server killed_workers stopped_server
