#!/bin/bash
# SPDX-License-Identifier: MIT
# bufpipe bridge over JetStream, when bridges and servers are killed or hang:
# test-stream-faults.sh PATH-OF-BUFPIPE PATH-OF-PUMP [TEST...]

set -u
# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"
# shellcheck disable=SC2034 # for begin
with_streams=yes

# The workers of both bridges are killed at random moments.  No pipe breaks, and nothing is lost or duplicated.
killed_workers()
{
	local messages

	open_bridges
	program to recv "$name-b"
	# Without pauses, so that the workers are busy when they are killed.
	messages=$(some 3000000 1000000)
	program from send "$name-a" "$messages" -100
	kill_workers "$(some 25 8)" 5 30
	finish "$from"
	finish "$to"
	close_bridges
	expect_said from.out 'broken 0'
	expect_received to.out "$messages"
	expect_no_doubt
}

# A bridge gets SIGTERM while its worker is dead.  It still delivers what it has.
killed_then_stopped()
{
	open_bridges --progress
	program to recv "$name-b"
	program from send "$name-a" 1000000000 100
	eventually grep -q 'sent: [1-9]' near.err
	# The second worker dies soon after it was started, so the third one is not started at once.
	kill -KILL "$(worker_of "$near")"
	eventually worker_of "$near" >pid
	kill -KILL "$(cat pid)"
	stop_bridge "$near"
	kill "$from"
	expect_said near.err 'sent: [1-9]'
	eventually all_received
	stop_bridge "$far"
	finish "$to"
	expect_received to.out "$(counted near messages)"
}

all_received()
{
	[ "$(counted far messages)" = "$(counted near messages)" ]
}

# Workers are killed just before and just after the calls that move a message one step further.
killed_in_calls()
{
	local call when size messages every subject

	has_killer || return
	for call in release publish commit; do
		size=-400
		messages=$(some 10000 2000)
		every=$(some 1500 400)
		# So long that each frame has one message, and publish is called for each message.
		[ "$call" != publish ] || { size=40000 messages=$(some 3000 300) every=50; }
		for when in before after; do
			subject="$url/$test.$call.$when?stream=$test-$call-$when&create"
			bridge_to_kill near "$call,$when,$every" --from "$name-a" --to "$subject"
			bridge_to_kill far "$call,$when,$every" --from "$subject" --to "$name-b"
			program to recv "$name-b"
			program from send "$name-a" "$messages" "$size"
			finish "$from"
			finish "$to"
			kill "$near" "$far"
			finish "$near"
			finish "$far"
			expect_said from.out 'broken 0'
			expect_received to.out "$messages"
			grep -q 'killed by signal 9' near.err far.err || fail "$call $when: nobody was killed"
			expect_no_doubt
			rm -f ./*.err
		done
	done
}

# The same with long messages.
killed_workers_long()
{
	open_bridges --buffer 2M
	program to recv "$name-b"
	program from send "$name-a" 200 -1500000 5000
	kill_workers "$(some 12 4)" 5 60
	finish "$from"
	finish "$to"
	close_bridges
	expect_received to.out 200
}

# The server is killed and started again.  Nothing is lost or duplicated.
restarted_server()
{
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 30000 -1000 100
	restart_server
	finish "$from"
	finish "$to"
	close_bridges
	expect_received to.out 30000
}

# The server hangs for longer than a publication waits for an answer.
stopped_server()
{
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 10000 -1000 100
	some_time 30 60
	kill -STOP "$server"
	sleep 7
	kill -CONT "$server"
	finish "$from"
	finish "$to"
	close_bridges
	expect_received to.out 10000
}

# Workers and the server are killed at random moments.
killed_workers_and_servers()
{
	local round pid

	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 40000 -1000 100
	for round in $(seq "$(some 20 8)"); do
		some_time 5 40
		case $((RANDOM % 5)) in
		0)
			stop_server KILL
			some_time 1 20
			start_server
			;;
		1 | 2)
			for pid in $(worker_of "$near"); do kill -KILL "$pid"; done
			;;
		*)
			for pid in $(worker_of "$far"); do kill -KILL "$pid"; done
			;;
		esac
	done
	finish "$from"
	finish "$to"
	close_bridges
	expect_received to.out 40000
}

# Only the supervisor of the sending bridge is killed.  Its worker finishes what was
# sent, and the next bridge goes on.  Each time one bufpipe_send of the program
# returns -EPIPE, and nobody knows whether the bridge took that message: see
# bufpipe_shutdown(3).  The program sends it again, so it may come twice.
killed_supervisor()
{
	local round duplicated broken

	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 20000 -1000 100
	for round in 1 2 3 4 5; do
		some_time 10 40
		kill -KILL "$near"
		wait "$near" 2>/dev/null
		# The worker of the killed bridge may still hold the lock of its state, and the address.
		eventually restarted
	done
	finish "$from"
	finish "$to"
	close_bridges
	expect_said to.out ' first 0 last 19999 missing 0 duplicated [0-5] reordered 0 corrupted 0'
	duplicated=$(grep -o 'duplicated [0-9]*' to.out)
	broken=$(grep -o 'broken [0-9]*' from.out)
	[ "${duplicated#* }" -le "${broken#* }" ] || fail "$duplicated, but $broken"
	echo "$duplicated, $broken"
}

restarted()
{
	bridge near --from "$name-a" --to "$url/$test$query"
	sleep 0.3
	is_running "$near"
}

# Supervisor and worker of the receiving bridge are killed together.  It may then be
# unknown whether the program got one message.  The next bridge reports this
# doubt and sends the message, so it may come twice.
killed_both()
{
	local round last=-1 first total=0 duplicated=0

	open_bridges
	program from send "$name-a" 20000 -300 100
	for round in $(seq 9); do
		program to recv "$name-b"
		if [ "$round" -lt 9 ]; then
			some_time 20 40
			# shellcheck disable=SC2046 # there may be none
			kill -KILL "$far" $(worker_of "$far")
			wait "$far" 2>/dev/null
			far=
		fi
		finish "$to"
		expect_said to.out 'missing 0 duplicated 0 reordered 0 corrupted 0'
		# shellcheck disable=SC2046 # words
		set -- $(cat to.out)
		total=$((total + $2))
		if [ "$2" -gt 0 ]; then
			first=$4
			[ "$first" -eq $((last + 1)) ] || {
				[ "$first" -eq "$last" ] || fail "round $round: $first after $last"
				duplicated=$((duplicated + 1))
			}
			last=$6
		fi
		[ -n "$far" ] || bridge far --from "$url/$test$query" --to "$name-b"
	done
	finish "$from"
	close_bridges
	[ "$last" -eq 19999 ] || fail "the last was $last"
	[ $((total - duplicated)) -eq 20000 ] || fail "$total messages, $duplicated of them twice"
	[ "$duplicated" -le "$(counted far 'in doubt')" ] || fail "a doubt was not reported: $(cat far.err)"
	echo "duplicated $duplicated, in doubt $(counted far 'in doubt')"
}

start_server
[ $# -le 2 ] || run_tests "${@:3}"
run_tests killed_workers killed_then_stopped killed_in_calls killed_workers_long restarted_server stopped_server \
	killed_workers_and_servers killed_supervisor killed_both
