#!/bin/bash
# SPDX-License-Identifier: MIT
# bufpipe bridge over JetStream: test-stream.sh PATH-OF-BUFPIPE PATH-OF-PUMP [TEST...]

set -u
# For a disk of its own, which can be full.
if [ -z "${BRIDGE_TEST_MOUNTS-}" ] && unshare --mount mount -t tmpfs tmpfs /mnt 2>/dev/null; then
	BRIDGE_TEST_MOUNTS=1 exec unshare --mount "$0" "$@"
fi

# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"

# Both bridges of a test, over a stream of its own.
open_bridges()
{
	stream="stream=$test&create"
	bridge near --from "$name-a" --to "$url/$test?$stream" "$@"
	bridge far --from "$url/$test?$stream" --to "$name-b" "$@"
}

close_bridges()
{
	stop_bridge "$near"
	stop_bridge "$far"
}

round_trip()
{
	local count=$1 size=$2

	shift 2
	open_bridges "$@"
	program to recv "$name-b"
	program from send "$name-a" "$count" "$size"
	finish "$from"
	expect_status 0 $? "the sender: $(cat from.err)"
	finish "$to"
	expect_status 0 $? "the receiver: $(cat to.err)"
	close_bridges
	[ "$count" -eq 0 ] || expect_received to.out "$count"
	[ "$(counted far lost)" = 0 ] || fail "it says that something was lost"
	[ "$(counted far 'in doubt')" = 0 ] || fail "it doubts"
}

many_small()
{
	round_trip 200000 64
}

lengths()
{
	round_trip 2000 -600000
}

long_messages()
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

# A receiver that comes later gets what was sent before, and so does another one after it.
later()
{
	local from_url="$url/$test?stream=$test"

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
	# When the same bridge starts again, nothing is left for it.
	bridge far --from "$from_url&consumer=b" --to "$name-b"
	program to recv "$name-b"
	sleep 1
	stop_bridge "$far"
	finish "$to"
	expect_said to.out '^received 0 '
}

replay()
{
	local from_url="$url/$test?stream=$test" middle since span

	bridge near --from "$name-a" --to "$from_url&create" --once
	# Each message fills a frame of its own, so the messages of the stream are those of the pipe.
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
	# With start=new nothing of what is there already.
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

# How long it took to record the stream of this test, in ms, as the server says.
stream_span()
{
	local answer first last

	exec 7<>"/dev/tcp/127.0.0.1/$port"
	printf 'CONNECT {"verbose":false}\r\nSUB span 1\r\nPUB %s span 0\r\n\r\n' "\$JS.API.STREAM.INFO.$test" >&7
	answer=$(timeout 20 grep -m 1 '"first_ts"' <&7)
	exec 7>&-
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

# The members of a queue share the messages, and each message arrives once.
queue()
{
	local from_url="$url/$test?stream=$test&create"

	bridge near --from "$name-a" --to "$from_url" --once
	bridge far1 --from "$from_url&queue=workers" --to "$name-b"
	bridge far2 --from "$from_url&queue=workers" --to "$name-c"
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

# The end of the stream ends one of them; the other may still have some.
all_shared()
{
	! is_running "$to1" || ! is_running "$to2"
}

# Two bridges publish into one stream: each keeps its order, and nothing is lost.
crowd()
{
	stream="stream=$test&create"
	bridge far --from "$url/$test?$stream" --to "$name-b"
	bridge near1 --from "$name-a" --to "$url/$test?$stream"
	bridge near2 --from "$name-c" --to "$url/$test?$stream"
	program to recv "$name-b" 0 8000
	program from1 send "$name-a" 4000 -500 100
	program from2 send "$name-c" 4000 -500 100 1000000
	finish "$from1"
	finish "$from2"
	is_running "$to" && eventually has_bytes to.out 10
	expect_said to.out '^received 8000 .* doubled 0 .* damaged 0'
	for each in $near1 $near2 $far; do
		stop_bridge "$each"
	done
	[ "$(counted far lost)" = 0 ] || fail "lost: $(cat far.err)"
}

# Ten receivers at once, of which each gets everything.
ten()
{
	local i receivers=()

	stream="stream=$test&create"
	bridge near --from "$name-a" --to "$url/$test?$stream" --once
	program from send "$name-a" 5000 -1000
	for i in 0 1 2 3 4 5 6 7 8 9; do
		bridge "far$i" --from "$url/$test?$stream&consumer=c$i" --to "$name-b$i" --once
		"$pump" recv "$name-b$i" >"to$i.out" &
		receivers+=($!)
	done
	for i in 0 1 2 3 4 5 6 7 8 9; do
		finish "${receivers[$i]}"
		expect_received "to$i.out" 5000
	done
	finish "$near"
}

# A message of a program without a bridge arrives as a message.
foreign()
{
	stream="stream=$test&create"
	bridge far --from "$url/$test?$stream" --to "$name-b"
	"$pump" recv "$name-b" 0 1 >to.out &
	to=$!
	eventually grep -q "Server is ready" server.log
	sleep 1
	exec 7<>"/dev/tcp/127.0.0.1/$port"
	# The number 0 and no more: what the pump sends as its first message of 8 bytes.
	printf 'CONNECT {"verbose":false}\r\nPUB %s 8\r\n\0\0\0\0\0\0\0\0\r\nPING\r\n' "$test" >&7
	finish "$to"
	exec 7>&-
	expect_received to.out 1
	stop_bridge "$far"
}

# Both workers are killed at random moments: the programs notice nothing, and nothing is lost or doubled.
killed_workers()
{
	local round pid messages

	open_bridges
	program to recv "$name-b"
	# At full speed, so that they are at work when they are killed.
	messages=$(some 3000000 1000000)
	program from send "$name-a" "$messages" -100
	for round in $(seq "$(some 25 8)"); do
		some_time 5 30
		for pid in $(worker_of "$near") $(worker_of "$far"); do
			[ $((RANDOM % 2)) -eq 0 ] || kill -KILL "$pid"
		done
	done
	finish "$from"
	finish "$to"
	close_bridges
	expect_said from.out 'broken 0'
	expect_received to.out "$messages"
	[ "$(counted far 'in doubt')" = 0 ] || fail "it doubts: $(cat far.err)"
}

# A bridge that is told to end while its worker is dead finishes none the less.
killed_then_stopped()
{
	open_bridges --progress
	program to recv "$name-b"
	program from send "$name-a" 1000000000 100
	eventually grep -q 'sent: [1-9]' near.err
	# The second one dies young, so the next is not started at once.
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

# The workers are killed at the calls between which a message may be in doubt.
killed_in_calls()
{
	local call when size messages every

	if [ -z "${BRIDGE_KILLER-}" ]; then
		echo "skipped: nothing to preload"
		return
	fi
	for call in release publish commit; do
		size=-400
		messages=$(some 10000 2000)
		every=$(some 1500 400)
		# Each message fills a frame of its own, so as many frames as messages are published.
		[ "$call" != publish ] || { size=40000 messages=$(some 3000 300) every=50; }
		for when in before after; do
			stream="stream=$test-$call-$when&create"
			export LD_PRELOAD=$BRIDGE_KILLER BUFPIPE_TEST_KILL=$call,$when,$every
			bridge near --from "$name-a" --to "$url/$test.$call.$when?$stream"
			bridge far --from "$url/$test.$call.$when?$stream" --to "$name-b"
			unset LD_PRELOAD BUFPIPE_TEST_KILL
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
			[ "$(counted far 'in doubt')" = 0 ] || fail "$call $when: it doubts: $(cat far.err)"
			rm -f ./*.err
		done
	done
}

# Long messages that fit into the pipe, too.
killed_workers_long()
{
	local round pid

	open_bridges --buffer 2M
	program to recv "$name-b"
	program from send "$name-a" 200 -1500000 5000
	for round in $(seq "$(some 12 4)"); do
		some_time 5 60
		for pid in $(worker_of "$near") $(worker_of "$far"); do
			[ $((RANDOM % 2)) -eq 0 ] || kill -KILL "$pid"
		done
	done
	finish "$from"
	finish "$to"
	close_bridges
	expect_received to.out 200
}

restarted_server()
{
	local round

	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 30000 -1000 100
	for round in $(seq "$(some 4 2)"); do
		some_time 30 80
		stop_server KILL
		some_time 1 30
		start_server
	done
	finish "$from"
	finish "$to"
	close_bridges
	expect_received to.out 30000
}

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

# The server and both workers are killed in random order.
chaos()
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

# The supervisor alone is killed: its worker finishes what was sent, and the next
# bridge goes on.  Each time one send of the program fails with -EPIPE, and nobody
# knows whether that message was taken: see bufpipe_shutdown(3).  The program sends
# it again, so it may come twice.
killed_supervisor()
{
	local round doubled broken

	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 20000 -1000 100
	for round in 1 2 3 4 5; do
		some_time 10 40
		kill -KILL "$near"
		wait "$near" 2>/dev/null
		# Its worker may still hold the state and the address.
		eventually restarted
	done
	finish "$from"
	finish "$to"
	close_bridges
	expect_said to.out ' first 0 last 19999 missing 0 doubled [0-5] disordered 0 damaged 0'
	doubled=$(grep -o 'doubled [0-9]*' to.out)
	broken=$(grep -o 'broken [0-9]*' from.out)
	[ "${doubled#* }" -le "${broken#* }" ] || fail "$doubled, but $broken"
	echo "$doubled, $broken"
}

restarted()
{
	bridge near --from "$name-a" --to "$url/$test?$stream"
	sleep 0.3
	is_running "$near"
}

# Supervisor and worker of the receiving side die together.  One message can then be in
# doubt.  The bridge reports it, and it may come twice.
killed_both()
{
	local round last=-1 first total=0 doubled=0

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
		expect_said to.out 'missing 0 doubled 0 disordered 0 damaged 0'
		# shellcheck disable=SC2046 # words
		set -- $(cat to.out)
		total=$((total + $2))
		if [ "$2" -gt 0 ]; then
			first=$4
			[ "$first" -eq $((last + 1)) ] || {
				[ "$first" -eq "$last" ] || fail "round $round: $first after $last"
				doubled=$((doubled + 1))
			}
			last=$6
		fi
		[ -n "$far" ] || bridge far --from "$url/$test?$stream" --to "$name-b"
	done
	finish "$from"
	close_bridges
	[ "$last" -eq 19999 ] || fail "the last was $last"
	[ $((total - doubled)) -eq 20000 ] || fail "$total messages, $doubled of them twice"
	[ "$doubled" -le "$(counted far 'in doubt')" ] || fail "a doubt was not told: $(cat far.err)"
	echo "doubled $doubled, in doubt $(counted far 'in doubt')"
}

# When the server may store no more, the sender waits, and goes on when there is room again.
full_quota()
{
	stop_server
	start_server 'max_file_store: 2MB'
	open_full 'refuses'
	stop_server
	start_server
	go_on_when_full
}

# The same with a disk that is full.  nats-server 2.9 then answers nothing, and only SIGKILL ends it.
full_disk()
{
	if [ -z "${BRIDGE_TEST_MOUNTS-}" ]; then
		echo "skipped: no mounts of our own"
		return
	fi
	stop_server
	mount -t tmpfs -o size=6m tmpfs jetstream
	# Without this setting the server would use at most three quarters of the disk.
	start_server 'max_file_store: 1GB'
	open_full 'no answer of stream\|refuses'
	[ "$(df --output=avail -k jetstream | tail -n 1)" -lt 512 ] || fail "the disk is not full: $(df jetstream)"
	stop_server KILL
	mount -o remount,size=200m jetstream
	start_server
	go_on_when_full
	stop_server KILL
	umount jetstream
	start_server
}

# open_full WORDS: sends more than the server can store, until it says so.
open_full()
{
	stream="stream=$test&create"
	bridge near --from "$name-a" --to "$url/$test?$stream"
	program from send "$name-a" 20000 1000
	eventually grep -q "$1" near.err
	is_running "$from" || fail "the sender did not wait"
}

go_on_when_full()
{
	bridge far --from "$url/$test?$stream" --to "$name-b"
	program to recv "$name-b"
	finish "$from"
	finish "$to"
	close_bridges
	expect_received to.out 20000
}

# A stream with a limit stops its sender, too.
full_stream()
{
	bridge near --from "$name-a" --to "$url/$test?stream=$test&create&max-bytes=1M"
	program from send "$name-a" 20000 1000
	eventually grep -q 'refuses' near.err
	expect_said near.err "$test"
	sleep 1
	is_running "$from" || fail "the sender did not wait"
	kill "$from"
	kill "$near"
	finish "$near"
	expect_status 1 $? "what could not be stored"
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

# Two bridges with the same state would give the same numbers to different messages, so the second is refused.
state_is_locked()
{
	stream="stream=$test&create"
	bridge near --from "$name-a" --to "$url/$test?$stream"
	eventually test -e "$XDG_STATE_HOME/bufpipe"
	sleep 0.5
	timeout 20 "$bufpipe" bridge --from "$name-a" --to "$url/$test?$stream" 2>err
	expect_status 1 $? "a second one"
	expect_said err 'another bridge'
	stop_bridge "$near"
}

start_server
[ $# -le 2 ] || run_tests "${@:3}"
run_tests many_small lengths long_messages empty_stream later replay duplex queue crowd ten foreign killed_workers killed_then_stopped \
	killed_in_calls killed_workers_long restarted_server stopped_server chaos killed_supervisor killed_both full_quota full_disk full_stream \
	mistakes state_is_locked
