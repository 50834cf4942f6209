# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# Shared by the tests of bufpipe bridge.  Each script starts a NATS server of its own
# on a free port of the loopback interface, and stops it however the script ends.

bufpipe=$(realpath "$1")
pump=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
command -v nats-server >/dev/null || { echo "skipped: no nats-server"; exit 77; }

dir=$(mktemp -d) || exit 1
# shellcheck source=../../tools/test-support.sh
. "$here/../../tools/test-support.sh"
cd "$dir" || exit 1
unset NATS_USER NATS_PASSWORD NATS_TOKEN NATS_CREDS NATS_NKEY NATS_SEED NATS_CA NATS_CERT NATS_KEY STATE_DIRECTORY
export XDG_STATE_HOME=$dir/state
server=
port=
monitor=
# A script whose tests send through JetStream sets this to yes.
with_streams=

# Stops every process that this script started, and no other.
clean_up()
{
	local pid

	for pid in $(jobs -rp); do
		pkill -KILL -P "$pid" 2>/dev/null
		kill -KILL "$pid" 2>/dev/null
	done
	[ -z "$server" ] || { kill -CONT "$server" && kill -KILL "$server"; } 2>/dev/null
	wait 2>/dev/null
	umount jetstream 2>/dev/null
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# start_server [JETSTREAM-SETTING [LINE...]]: LINEs are added to the configuration.  A
# server that is started again has the same port.
# shellcheck disable=SC2120 # only some tests pass arguments
start_server()
{
	{
		echo "host: ${server_host:-127.0.0.1}"
		echo "port: ${port:--1}"
		echo "http: 127.0.0.1:-1"
		echo "jetstream { store_dir: \"$dir/jetstream\"${1:+, ${1-}} }"
		printf '%s\n' "${@:2}"
	} >server.conf
	rm -rf ports
	mkdir ports
	nats-server -c server.conf --ports_file_dir "$dir/ports" >>server.log 2>&1 &
	server=$!
	eventually server_is_up || { cat server.log; exit 1; }
	port=$(grep -o '127.0.0.1:[0-9]*' ports/* | head -n 1)
	port=${port#*:}
	monitor=$(grep -o '"monitoring":.*127.0.0.1:[0-9]*' ports/*)
	monitor=${monitor##*:}
	# shellcheck disable=SC2034 # for the tests
	url=nats://127.0.0.1:$port
}

server_is_up()
{
	grep -qs '"monitoring":.*127.0.0.1:[0-9]' ports/*
}

# has_subscribers SUBJECT COUNT: whether so many bridges have subscribed to SUBJECT.
has_subscribers()
{
	local answer

	exec 8<>"/dev/tcp/127.0.0.1/$monitor"
	printf 'GET /subsz?subs=1&test=%s HTTP/1.0\r\n\r\n' "$1" >&8
	answer=$(timeout 20 cat <&8)
	exec 8>&-
	[ "$(grep -cF "\"subject\": \"$1\"" <<<"$answer")" -ge "$2" ]
}

# What the server says about the stream of this test; nothing if there is no such stream.
stream_info()
{
	exec 7<>"/dev/tcp/127.0.0.1/$port"
	printf 'CONNECT {"verbose":false}\r\nSUB info 1\r\nPUB %s info 0\r\n\r\n' "\$JS.API.STREAM.INFO.$test" >&7
	timeout 20 grep -m 1 '"type"' <&7 | grep '"first_ts"'
	exec 7>&-
}

has_stream()
{
	[ "$(stream_info)" ]
}

stop_server()
{
	kill "-${1:-TERM}" "$server"
	wait "$server" 2>/dev/null
	server=
}

# bridge NAME OPTION...: starts a bridge.  $NAME is its process; its messages go to NAME.err.
bridge()
{
	local name=$1

	shift
	"$bufpipe" bridge "$@" 2>>"$name.err" &
	eval "$name=$!"
}

# program NAME ARGUMENT...: starts a pump.  $NAME is its process; its output goes to NAME.out and NAME.err.
program()
{
	local name=$1

	shift
	"$pump" "$@" >"$name.out" 2>"$name.err" &
	eval "$name=$!"
}

# bridge_to_kill NAME CALL,WHEN,EVERY OPTION...: a bridge whose workers killer.c kills.
bridge_to_kill()
{
	export LD_PRELOAD=$BRIDGE_KILLER BUFPIPE_TEST_KILL=$2
	bridge "$1" "${@:3}"
	unset LD_PRELOAD BUFPIPE_TEST_KILL
}

# Whether calls can be killed in: not under a sanitizer, which allows no library to be preloaded.
has_killer()
{
	[ -n "${BRIDGE_KILLER-}" ] || {
		echo "skipped: nothing to preload"
		return 1
	}
}

# open_bridges [OPTION...]: 'near' takes what is sent to the pipe $name-a, and 'far' gives it to the pipe $name-b.
open_bridges()
{
	bridge near --from "$name-a" --to "$url/$test$query" "$@"
	bridge far --from "$url/$test$query" --to "$name-b" "$@"
}

close_bridges()
{
	stop_bridge "$near"
	stop_bridge "$far"
}

# Whether the other side of this program's pipe is a bridge.
has_bridge()
{
	"$bufpipe" list --pid "$1" | grep -q ' bufpip'
}

# round_trip COUNT SIZE [OPTION-OF-BOTH-BRIDGES...]
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
	[ "$(counted far lost)" = 0 ] || fail "the bridge reports a loss: $(cat far.err)"
	expect_no_doubt
}

expect_no_doubt()
{
	[ "$(counted far 'in doubt')" = 0 ] || fail "the bridge reports a doubt: $(cat far.err)"
}

# The process in which a bridge does its work.
worker_of()
{
	pgrep -P "$1"
}

# stop_bridge PROCESS: the bridge must deliver what it has, and report success.
stop_bridge()
{
	kill "$1"
	finish "$1"
	expect_status 0 $? "a bridge after SIGTERM: $(tail -n 3 ./*.err)"
}

# counted NAME WORD: the number before WORD in the last report of a bridge.
counted()
{
	grep -E '(sent|received): [0-9]+ messages' "$1.err" | tail -n 1 | grep -oE "[0-9]+ $2" | cut -d ' ' -f 1
}

# received [FILE]: how many messages a program received, by its output.
# shellcheck disable=SC2120 # without FILE it is the program 'to'
received()
{
	sed -n 's/^received \([0-9]*\) .*/\1/p' "${1-to.out}"
}

# expect_counted COUNT: of COUNT messages, each one was received, or is reported as lost.
expect_counted()
{
	expect_said to.out 'duplicated 0 reordered 0 corrupted 0'
	[ $(($(received) + $(counted far lost))) -eq "$1" ] || fail "not $1: $(cat to.out far.err)"
	echo "received $(received), lost $(counted far lost)"
}

# expect_received FILE COUNT: exactly the messages 0 to COUNT - 1, in order.
expect_received()
{
	grep -q "^received $2 first 0 last $(($2 - 1)) missing 0 duplicated 0 reordered 0 corrupted 0$" "$1" ||
		fail "$1: $(cat "$1"), of $2; $(tail -n 5 ./*.err)"
}

# some_time FROM TO: sleeps for a random number of hundredths of a second.
some_time()
{
	sleep "$(awk -v n=$((RANDOM % ($2 - $1 + 1) + $1)) 'BEGIN { print n / 100 }')"
}

# some LONG SHORT: the first number in a long run (BUFPIPE_TEST_LONG), else the second.
some()
{
	[ -n "${BUFPIPE_TEST_LONG-}" ] && echo "$1" || echo "$2"
}

# kill_workers TIMES FROM TO: kills the worker of one bridge or of both, with some_time FROM TO before each time.
kill_workers()
{
	local pid victims _

	for _ in $(seq "$1"); do
		some_time "$2" "$3"
		case $((RANDOM % 3)) in
		0) victims=$near ;;
		1) victims=$far ;;
		2) victims="$near $far" ;;
		esac
		for pid in $victims; do
			# Right after another kill there may be no worker.
			pid=$(worker_of "$pid") && kill -KILL "$pid"
		done
	done
	eventually grep -q 'killed by signal 9' near.err far.err
}

# Kills the server a few times, and starts it again.
restart_server()
{
	local _

	for _ in $(seq "$(some 4 2)"); do
		some_time 30 80
		stop_server KILL
		some_time 1 30
		start_server
	done
}

begin()
{
	test=$1
	name=@bridge-test-$$-$test
	query=${with_streams:+?stream=$test&create}
	echo "---- $test"
	rm -rf "$dir"/*.err "$dir"/*.out "$dir/state"
	local begun=$SECONDS
	"$test"
	echo "     $((SECONDS - begun)) s"
}

# Runs the tests that are named, and exits.
run_tests()
{
	local each

	for each; do
		begin "$each"
	done
	[ $failures -eq 0 ] || { echo "$failures failures"; grep -v INF server.log; exit 1; }
	echo "no failures"
	exit 0
}
