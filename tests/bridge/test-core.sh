#!/bin/bash
# SPDX-License-Identifier: MIT
# bufpipe bridge over core NATS: test-core.sh PATH-OF-BUFPIPE PATH-OF-PUMP

set -u
# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"

# round_trip COUNT SIZE [OPTION-OF-BOTH-BRIDGES...]
round_trip()
{
	local count=$1 size=$2

	shift 2
	bridge near --from "$name-a" --to "$url/$test" "$@"
	bridge far --from "$url/$test" --to "$name-b" "$@"
	program to recv "$name-b"
	program from send "$name-a" "$count" "$size"
	finish "$from"
	expect_status 0 $? "the sender: $(cat from.err)"
	finish "$to"
	expect_status 0 $? "the receiver: $(cat to.err)"
	stop_bridge "$near"
	stop_bridge "$far"
	[ "$count" -eq 0 ] || expect_received to.out "$count"
	[ "$(counted far lost)" = 0 ] || fail "it says that something was lost"
}

many_small()
{
	round_trip 200000 64
}

lengths()
{
	round_trip 3000 -2000
	round_trip 300 -600000
}

# Messages longer than max_payload, some of them longer than the pipe.
long_messages()
{
	round_trip 12 -8000000
	round_trip 2 67108864
	round_trip 20 -3000000 --buffer 64K
}

# Lengths around each limit at which another path is taken.
edges()
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

# A bridge that connects finds the pipe at which another bridge listens, also after a restart of the other.
connects()
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
	stop_bridge "$near"
	stop_bridge "$far"
	rm socket
}

# The pipes of a bridge are listed like any others.
listed()
{
	bridge near --from "$name-a" --to "$url/$test"
	bridge far --from "$url/$test" --to "$name-b"
	program to recv "$name-b"
	program from send "$name-a" 1000000000 100 1000
	eventually has_bridge "$from"
	eventually has_bridge "$to"
	kill "$from"
	finish "$to"
	stop_bridge "$near"
	stop_bridge "$far"
}

# Whether a bridge holds the other end of this program's pipe.
has_bridge()
{
	"$bufpipe" list --pid "$1" | grep -q ' bufpip'
}

duplex()
{
	bridge near --duplex --from "$name-a" --to "$url/$test"
	bridge far --duplex --from "$url/$test" --to "$name-b"
	program answer echo "$name-b"
	program ask ping "$name-a" 2000
	finish "$ask"
	expect_status 0 $? "$(cat ask.err)"
	expect_said ask.out 'echoed 2000'
	finish "$answer"
	stop_bridge "$near"
	stop_bridge "$far"
}

# Each of several receiving bridges gets everything.
fan_out()
{
	bridge far1 --from "$url/$test" --to "$name-b"
	bridge far2 --from "$url/$test" --to "$name-c"
	program to1 recv "$name-b"
	program to2 recv "$name-c"
	# The sender begins when it knows one receiver, so both are started before.
	sleep 1
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

# A subject with a wildcard receives from several senders.
wildcard()
{
	two_senders 2000 -500
}

# The chunks of two long messages arrive interleaved.
wildcard_long()
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

# When one sender has ended before the other begins, the stream of the receiving program ends, and the rest is for the next.
all_came()
{
	is_running "$to" || program to recv "$name-b"
	[ "$(counted far messages)" = "$1" ]
}

# The members of a queue together get everything once.
queue()
{
	bridge far1 --from "$url/$test?queue=workers" --to "$name-b"
	bridge far2 --from "$url/$test?queue=workers" --to "$name-c"
	program to1 recv "$name-b"
	program to2 recv "$name-c"
	sleep 1
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

# Nothing is lost while a receiver is slow, and the sender waits.
back_pressure()
{
	bridge far --from "$url/$test" --to "$name-b" --buffer 64K
	bridge near --from "$name-a" --to "$url/$test" --buffer 64K
	program to recv "$name-b" 1000
	program from send "$name-a" 3000 16384
	sleep 1
	is_running "$from" || fail "the sender did not wait"
	finish "$from"
	finish "$to"
	stop_bridge "$near"
	stop_bridge "$far"
	expect_received to.out 3000
	[ "$(counted far lost)" = 0 ] || fail "lost: $(cat far.err)"
}

# Programs without a bridge do not wait for a slow receiver.  What libnats drops then is reported.
slow_consumer()
{
	local _

	bridge far --from "$url/$test" --to "$name-b"
	program to recv "$name-b" 1000000
	sleep 1
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

# The programs end and are started again, and the bridges serve them.
programs_again()
{
	bridge far --from "$url/$test" --to "$name-b"
	bridge near --from "$name-a" --to "$url/$test"
	for _ in 1 2 3; do
		program to recv "$name-b"
		program from send "$name-a" 1000 -1000
		finish "$from"
		finish "$to"
		expect_received to.out 1000
	done
	stop_bridge "$near"
	stop_bridge "$far"
	[ "$(counted far lost)" = 0 ] || fail "lost: $(cat far.err)"
}

# What was in its pipe when the receiving program left is lost, and reported; the next program gets the rest.
program_leaves()
{
	leave_after 10 100000 100
}

program_leaves_long()
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
	stop_bridge "$near"
	stop_bridge "$far"
	expect_said to.out " last $((count - 1)) missing 0 doubled 0 disordered 0 damaged 0"
	rest=$(sed -n 's/^received \([0-9]*\) .*/\1/p' to.out)
	lost=$(counted far lost)
	[ $((taken + lost + rest)) -eq "$count" ] || fail "$taken, then lost $lost, then $rest: $(cat far.err)"
	[ "$lost" -eq 0 ] || expect_said far.err 'were in the pipe when its program left'
}

# When a receiving bridge dies and never returns, only the sending bridge can report that something is missing.
receiver_dies()
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
	received=$(sed -n 's/^received \([0-9]*\) .*/\1/p' to.out)
	taken=$(counted near messages)
	doubtful=$(counted near 'in doubt')
	[ "$doubtful" -ge $((taken - received)) ] || fail "took $taken, of which $received arrived: $(cat near.err)"
}

# All that was sent before SIGTERM arrives.
drains()
{
	bridge far --from "$url/$test" --to "$name-b"
	bridge near --from "$name-a" --to "$url/$test"
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

# Exactly the messages that are lost are reported as lost.
restarted_server()
{
	local messages

	messages=$(some 30000 10000)
	bridge far --from "$url/$test" --to "$name-b"
	bridge near --from "$name-a" --to "$url/$test"
	program to recv "$name-b"
	program from send "$name-a" "$messages" -400 100
	for _ in $(seq "$(some 4 2)"); do
		some_time 30 80
		stop_server KILL
		some_time 1 30
		start_server
	done
	finish "$from"
	finish "$to"
	stop_bridge "$near"
	stop_bridge "$far"
	expect_said to.out "doubled 0 disordered 0 damaged 0"
	expect_counted_losses "$messages"
}

# The messages that arrived and those that are reported as lost are together all.
expect_counted_losses()
{
	local received lost

	received=$(sed -n 's/^received \([0-9]*\) .*/\1/p' to.out)
	lost=$(counted far lost)
	[ $((received + lost)) -eq "$1" ] || fail "received $received, lost $lost: $(cat to.out far.err)"
	echo "received $received, lost $lost"
}

# The workers of both are killed again and again: the programs notice nothing.
killed_workers()
{
	local pid messages

	messages=$(some 60000 20000)
	bridge far --from "$url/$test" --to "$name-b"
	bridge near --from "$name-a" --to "$url/$test"
	program to recv "$name-b"
	program from send "$name-a" "$messages" -400 50
	for _ in $(seq "$(some 10 4)"); do
		some_time 10 60
		for pid in $(worker_of "$near") $(worker_of "$far"); do
			[ $((RANDOM % 2)) -eq 0 ] || kill -KILL "$pid"
		done
	done
	finish "$from"
	finish "$to"
	stop_bridge "$near"
	stop_bridge "$far"
	expect_said from.out 'broken 0'
	expect_said to.out "doubled 0 disordered 0 damaged 0"
	expect_counted_losses "$messages"
}

# A bridge notices a server that hangs, and reports what was lost in it.
stopped_server()
{
	bridge far --from "$url/$test" --to "$name-b"
	bridge near --from "$name-a" --to "$url/$test"
	program to recv "$name-b"
	program from send "$name-a" 20000 -400 100
	sleep 0.3
	kill -STOP "$server"
	sleep 2
	kill -CONT "$server"
	finish "$from"
	finish "$to"
	stop_bridge "$near"
	stop_bridge "$far"
	expect_said to.out "doubled 0 disordered 0 damaged 0"
	expect_counted_losses 20000
}

start_server
[ $# -le 2 ] || run_tests "${@:3}"
run_tests many_small lengths long_messages edges empty_stream connects passed_socket listed duplex fan_out wildcard wildcard_long queue back_pressure slow_consumer \
	programs_again program_leaves program_leaves_long receiver_dies drains restarted_server killed_workers stopped_server
