# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the tests of bufpipe bridge have in common. Each starts a server of its own on a free port of the loopback
# interface, and always stops it.

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

# Stops everything that was started here and still runs, and nothing else.
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

# start_server [JETSTREAM-SETTING [LINE...]]: starts it, each time on the same port.
start_server()
{
	{
		echo "host: ${server_host:-127.0.0.1}"
		echo "port: ${port:--1}"
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
	# shellcheck disable=SC2034 # for the tests
	url=nats://127.0.0.1:$port
}

server_is_up()
{
	grep -qs '127.0.0.1:[0-9]' ports/*
}

stop_server()
{
	kill "-${1:-TERM}" "$server"
	wait "$server" 2>/dev/null
	server=
}

# bridge NAME OPTION...: starts a bridge. Its process id is then in $NAME, and its messages go to NAME.err.
bridge()
{
	local name=$1

	shift
	"$bufpipe" bridge "$@" 2>>"$name.err" &
	eval "$name=$!"
}

# Starts a program at a pipe. Its output goes to NAME.out.
program()
{
	local name=$1

	shift
	"$pump" "$@" >"$name.out" 2>"$name.err" &
	eval "$name=$!"
}

# Prints the process id of the worker of a bridge.
worker_of()
{
	pgrep -P "$1"
}

# stop_bridge PROCESS: tells it to end. It must drain, and succeed.
stop_bridge()
{
	kill "$1"
	finish "$1"
	expect_status 0 $? "a bridge that was told to stop: $(tail -n 3 ./*.err)"
}

# counted NAME WORD: prints the number before a word, such as lost, in the last report of a bridge.
counted()
{
	grep -E '(sent|received): [0-9]+ messages' "$1.err" | tail -n 1 | grep -oE "[0-9]+ $2" | cut -d ' ' -f 1
}

# expect_received FILE COUNT: the program received exactly the messages 0 to COUNT - 1, in order.
expect_received()
{
	grep -q "^received $2 first 0 last $(($2 - 1)) missing 0 doubled 0 disordered 0 damaged 0$" "$1" ||
		fail "$1: $(cat "$1"), of $2; $(tail -n 5 ./*.err)"
}

# Sleeps for a random time from $1 to $2 hundredths of a second.
some_time()
{
	sleep "$(awk -v n=$((RANDOM % ($2 - $1 + 1) + $1)) 'BEGIN { print n / 100 }')"
}

# some FULL SHORT: the first for a long run (BUFPIPE_TEST_LONG), the second for one among all other tests.
some()
{
	[ -n "${BUFPIPE_TEST_LONG-}" ] && echo "$1" || echo "$2"
}

begin()
{
	test=$1
	name=@bridge-test-$$-$test
	echo "---- $test"
	rm -rf "$dir"/*.err "$dir"/*.out "$dir/state"
	local begun=$SECONDS
	"$test"
	echo "     $((SECONDS - begun)) s"
}

# Runs all tests that are named, and ends.
run_tests()
{
	local each

	for each; do
		begin "$each"
	done
	[ $failures -eq 0 ] || { echo "$failures failures"; grep -v INF server.log; exit 1; }
	echo "all right"
	exit 0
}
