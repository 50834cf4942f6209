#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: run.sh NAME PROGRAM
# Runs one example and checks what it says. ASK is the client program.
set -eu

name=$1
program=$2
here=$(cd "$(dirname "$0")" && pwd)
temporary=$(mktemp -d)
address=@bufpipe-example-$name-$$
server=

clean_up() {
	[ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
	rm -rf "$temporary"
}
trap clean_up EXIT

expect() {
	if [ "$1" != "$2" ]; then
		printf 'expected: %s\nfound:    %s\n' "$2" "$1" >&2
		exit 1
	fi
}

start() {
	"$@" >"$temporary/out" &
	server=$!
}

# A program that cannot make its pipes says so.
expect_too_few_descriptors() {
	status=0
	(ulimit -n 5 && exec "$program") >"$temporary/out" 2>"$temporary/err" || status=$?
	expect "$status $(cat "$temporary/out" "$temporary/err")" "1 $1"
}

# Ends the server, which must succeed.
stop() {
	kill -TERM "$server"
	wait "$server"
	server=
}

case $name in
service)
	start "$program" "$address"
	expect "$("$ASK" "$address" 'put colour blue' 'put shape round' 'get colour')" "$(printf 'ok\nok\nblue')"
	# Another client finds what the first one has put; both are served at the same time.
	"$ASK" "$address" 'get shape' 'get nothing' >"$temporary/first" &
	first=$!
	expect "$("$ASK" "$address" 'get colour' 'what?')" "$(printf 'blue\nerror: put KEY VALUE, or get KEY')"
	wait "$first"
	expect "$(cat "$temporary/first")" "$(printf 'round\nerror: no such word')"
	stop
	# At SIGTERM it removes its socket.
	start "$program" "$temporary/socket"
	expect "$("$ASK" "$temporary/socket" 'put size large')" ok
	stop
	[ ! -e "$temporary/socket" ]
	;;
worker-pool)
	expect "$("$program" 3 500)" '500 answers, 3190 divisors'
	expect_too_few_descriptors 'worker-pool: the pipes: this process has too many descriptors open'
	;;
frames)
	expect "$("$program" 20)" '20 frames, mean pixel 460799.5'
	expect_too_few_descriptors 'frames: the pipe: this process has too many descriptors open'
	;;
epoll-daemon)
	start "$program" "$address"
	"$ASK" "$address" one two >"$temporary/first" &
	first=$!
	expect "$("$ASK" "$address" hello)" HELLO
	wait "$first"
	expect "$(cat "$temporary/first")" "$(printf 'ONE\nTWO')"
	stop
	;;
libevent-daemon)
	start "$program" "$address"
	expect "$("$ASK" "$address" a b c)" "$(printf '1\n2\n3')"
	expect "$("$ASK" "$address" d)" 4
	stop
	;;
activated)
	status=0
	env -u LISTEN_PID "$program" 2>"$temporary/err" || status=$?
	expect "$status $(cat "$temporary/err")" '1 activated: systemd must start this program and pass it the socket'
	status=0
	"$ASK" no-address hello 2>"$temporary/err" || status=$?
	expect "$status $(cat "$temporary/err")" "2 ask: 'no-address' is not an address: use @name, /path or ./path"
	# What systemd does: it listens, and starts the program with the socket as descriptor 3.
	cat >"$temporary/activate.py" <<'END'
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(sys.argv[1])
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
END
	start "${PYTHON:-python3}" "$temporary/activate.py" "$temporary/clock" "$program" 2000
	expect "$("$ASK" "$temporary/clock" now | sed 's/[0-9]/0/g')" '0000-00-00 00:00:00'
	# Nobody asks any more: it ends by itself.
	wait "$server"
	server=
	;;
graceful)
	start "$program" "$address"
	"$program" "$address" 1000 >"$temporary/producer" &
	producer=$!
	until grep -q sent "$temporary/producer"; do
		sleep 0.05
	done
	# Its thread is blocked now, or has messages before it still.
	stop
	expect "$(cat "$temporary/out")" '1000 messages collected'
	wait "$producer"
	expect "$(cat "$temporary/producer")" "$(printf '1000 sent\nthe collector has ended')"
	;;
sensor)
	start "$program" "$address" 1000
	expect "$("${PYTHON:-python3}" "$here/sensor.py" "$address")" '1000 samples, mean 124.875'
	wait "$server"
	server=
	;;
word-count)
	printf 'to be or not to be\nthat is the question\n' >"$temporary/text"
	expect "$("${PYTHON:-python3}" "$program" "$temporary/text" | head -n 3)" "$(printf '2 be\n2 to\n1 is')"
	;;
*)
	echo "there is no example '$name'" >&2
	exit 2
	;;
esac
