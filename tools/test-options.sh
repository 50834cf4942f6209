#!/bin/bash
# SPDX-License-Identifier: MIT
# Options and messages of bufpipe send and recv: test-options.sh PATH-OF-BUFPIPE
# The variables without quotes are process ids, and words without blanks.
# shellcheck disable=SC2086

# shellcheck source=test-transfers.sh
. "$(dirname "$0")/test-transfers.sh"

# start_recv OPTIONS...: a receiver in the background, $receiver, that listens already.
start_recv()
{
	"$bufpipe" recv "$@" "$name" >out 2>recv.err &
	receiver=$!
	eventually listens "$name"
}

# send_ok INPUT OPTIONS...
send_ok()
{
	local input=$1

	shift
	timeout 60 "$bufpipe" send "$@" "$name" <"$input" 2>send.err
	expect_status 0 $? "send $*: $(cat send.err)"
}

end_recv()
{
	finish "$receiver"
	expect_status "$1" $? "recv: $(cat recv.err)"
}

keep()
{
	local i

	start_recv --keep
	for i in 1 2 3; do
		seq "$i" 100000 >in
		cat in >>all
		send_ok in
	done
	expect_same all out
	kill $receiver
	end_recv 143
	expect_silence recv.err
}

# If no other sender comes in time, the receiver ends with success.
keep_ends()
{
	seq 1000 >in
	start_recv --keep --wait 10
	send_ok in
	end_recv 0
	expect_same in out
}

keep_loses_one()
{
	local sender

	mkfifo fifo
	start_recv --keep --wait 10
	"$bufpipe" send "$name" <fifo 2>send.err &
	sender=$!
	exec 7>fifo
	echo half >&7
	eventually has_bytes out 5
	kill -9 $sender
	wait $sender 2>/dev/null
	exec 7>&-
	echo whole >in
	send_ok in
	end_recv 6
	printf 'half\nwhole\n' | cmp - out || fail "out: $(cat out)"
	expect_said recv.err 'the sender ended before the end'
}

# Two senders at once do not wait for each other, and lines longer than the pipe stay whole.
merge()
{
	local first second

	mkfifo one two
	start_recv --merge --buffer 64K
	"$bufpipe" send --lines "$name" <one 2>first.err &
	first=$!
	"$bufpipe" send --lines "$name" <two 2>second.err &
	second=$!
	exec 7>one 8>two
	echo a >&7
	eventually has_bytes out 2
	echo b >&8
	eventually has_bytes out 4
	{ head -c 300000 /dev/zero | tr '\0' x; echo; } >long
	cat long >&7
	cat long >&8
	eventually has_bytes out 600006
	exec 7>&- 8>&-
	finish $first
	expect_status 0 $? "$(cat first.err)"
	finish $second
	expect_status 0 $? "$(cat second.err)"
	{ printf 'a\nb\n'; cat long long; } >in
	expect_same in out
	kill $receiver
	end_recv 143
}

exec_both()
{
	seq 1000 >in
	start_recv --exec 'tr 0-9 a-j | cat >received'
	timeout 60 "$bufpipe" send --exec 'cat in; cat in' "$name" 2>send.err
	expect_status 0 $? "$(cat send.err)"
	end_recv 0
	cat in in | tr 0-9 a-j >wanted
	expect_same wanted received
}

exec_of_each()
{
	start_recv --keep --exec 'wc -c'
	echo 1 >in
	send_ok in
	echo 234 >in
	send_ok in
	printf '2\n4\n' | cmp - out || fail "out: $(cat out)"
	kill $receiver
	end_recv 143
}

# The output of a command that failed is not taken for complete.
exec_fails()
{
	start_recv
	timeout 60 "$bufpipe" send --exec 'echo part; exit 3' "$name" 2>send.err
	expect_status 1 $? send
	expect_said send.err "'echo part; exit 3' ended with status 3"
	end_recv 6

	start_recv --exec 'cat >/dev/null; exit 4'
	seq 10 >in
	timeout 60 "$bufpipe" send "$name" <in 2>send.err
	expect_status 5 $? send
	expect_said send.err 'the receiver could not write everything'
	end_recv 1
	expect_said recv.err 'ended with status 4'
}

# A command learns that its input was not complete.
exec_told()
{
	local sender

	mkfifo fifo
	# shellcheck disable=SC2016
	start_recv --exec 'trap "echo told; exit 1" TERM; while read -r word; do echo "$word"; done; echo all'
	"$bufpipe" send --lines "$name" <fifo 2>send.err &
	sender=$!
	exec 7>fifo
	echo part >&7
	eventually has_bytes out 5
	kill -9 $sender
	wait $sender 2>/dev/null
	exec 7>&-
	end_recv 6
	expect_said out told
}

tees()
{
	seq 100000 >in
	start_recv --tee copy
	send_ok in --tee copy-of-send
	end_recv 0
	expect_same in copy
	expect_same in copy-of-send
	start_recv --tee copy
	send_ok in --lines --tee copy-of-send
	end_recv 0
	expect_same in copy-of-send

	timeout 10 "$bufpipe" recv --tee no/such/file "$name" 2>err
	expect_status 1 $?
	expect_said err 'no/such/file: No such file'
	start_recv --tee /dev/full
	timeout 60 "$bufpipe" send "$name" <in 2>send.err
	expect_status 5 $? send
	end_recv 1
	expect_said recv.err '/dev/full: No space left'
}

# A transfer may be slower than its limit on a slow machine, but never faster.
rate_limit()
{
	local begin_ns

	head -c 20000 /dev/zero >in
	for side in send recv; do
		begin_ns=$(date +%s%N)
		if [ $side = send ]; then
			start_recv
			send_ok in --rate-limit 20000
		else
			start_recv --rate-limit 20000
			send_ok in
		fi
		end_recv 0
		expect_same in out
		[ $(($(date +%s%N) - begin_ns)) -ge 800000000 ] || fail "$side was too fast"
	done
}

progress_line()
{
	local sender

	head -c 3000000 /dev/zero >in
	start_recv
	timeout 60 script -qec "'$bufpipe' send --progress '$name' <in" typescript </dev/null >screen
	expect_status 0 $? send
	end_recv 0
	expect_said screen 'buffer  *[0-9]*% 100% ETA  *0:00:00'

	start_recv
	timeout 60 script -qec "cat in | '$bufpipe' send --progress --size 6000000 '$name'" typescript \
		</dev/null >screen
	expect_status 0 $? send
	end_recv 0
	expect_said screen ' 50% ETA '

	# The pipe of a receiver that is slower than its sender is full.
	"$bufpipe" send "$name" <in 2>send.err &
	sender=$!
	timeout 60 script -qec "'$bufpipe' recv --progress --size 3M --rate-limit 3M '$name' >out" typescript \
		</dev/null >screen
	expect_status 0 $? recv
	finish $sender
	expect_status 0 $? send
	expect_said screen 'buffer .* 95% ETA  *0:00:00'
}

# More senders than descriptors: they are served one after the other.
few_descriptors()
{
	local i senders=()

	(
		ulimit -n 14
		exec "$bufpipe" recv --merge --wait 20 "$name" >out 2>recv.err
	) &
	receiver=$!
	eventually listens "$name"
	for i in $(seq 10 19); do
		echo "$i" | "$bufpipe" send "$name" 2>"send$i.err" &
		senders+=($!)
	done
	for i in "${senders[@]}"; do
		finish "$i"
		expect_status 0 $? "send: $(cat send*.err)"
	done
	seq 10 19 >in
	eventually has_bytes out 30
	sort out >sorted
	expect_same in sorted
	kill $receiver
	end_recv 143
}

# A client that connects and leaves, or uses another protocol, is not taken for a sender.
strangers()
{
	start_recv
	python3 - "$name" <<'EOF'
import socket, sys
for words in (b"", b"hello"):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.connect("\0" + sys.argv[1][1:])
        if words:
            s.send(words)
EOF
	seq 10 >in
	send_ok in
	end_recv 0
	expect_same in out
	expect_silence recv.err
}

# expect_culprit TYPE STATUS WORDS: send names a process that listens with a socket of this type and never answers.
expect_culprit()
{
	local listener

	python3 - "$1" "$path" >listening <<'EOF' &
import signal, socket, sys
s = socket.socket(socket.AF_UNIX, getattr(socket, sys.argv[1]))
s.bind(sys.argv[2])
s.listen()
print("yes", flush=True)
signal.pause()
EOF
	listener=$!
	eventually has_bytes listening 4
	timeout 60 "$bufpipe" send --wait 0.1 "$path" </dev/null 2>err
	expect_status "$2" $?
	expect_said err "process $listener (python3.*) listens there, $3"
	kill $listener
	finish $listener 2>/dev/null
	rm "$path" listening
}

foreign_listeners()
{
	expect_culprit SOCK_STREAM 4 "and is not 'bufpipe recv'"
	expect_culprit SOCK_SEQPACKET 7 'but did not answer in time'
}

stopped_listener()
{
	start_recv
	kill -STOP $receiver
	eventually grep -q '^State:.*stopped' /proc/$receiver/status
	timeout 60 "$bufpipe" send --wait 0.1 "$name" </dev/null 2>err
	expect_status 7 $?
	expect_said err "process $receiver (bufpipe) listens there, but is stopped"
	kill -CONT $receiver
	seq 10 >in
	send_ok in
	end_recv 0
	expect_same in out
}

no_sockets()
{
	local command

	echo data >file
	for command in send recv; do
		timeout 10 "$bufpipe" $command /tmp 2>err </dev/null
		expect_status 1 $? $command
		expect_said err '/tmp: is a directory'
		timeout 10 "$bufpipe" $command ./file 2>err </dev/null
		expect_status 1 $? $command
		expect_said err 'file: is a regular file'
	done
	# The advice fits the side: only a receiver makes a new socket.
	timeout 10 "$bufpipe" send /tmp 2>err </dev/null
	expect_said err 'choose the path of the receiver'
	timeout 10 "$bufpipe" recv /tmp 2>err </dev/null
	expect_said err 'choose a path where nothing is'
	timeout 10 "$bufpipe" recv ./no/such 2>err
	expect_status 1 $?
	expect_said err 'there is no such directory'
}

# The message says which limit an address exceeds, and by how much; the longest address is accepted.
long_addresses()
{
	local command bytes

	bytes=$(printf '%0107d' 0)
	for command in send recv; do
		timeout 10 "$bufpipe" $command "@x$bytes" 2>err </dev/null
		expect_status 1 $? $command
		expect_said err 'this name has 108 bytes, and that of a Unix socket at most 107'
		timeout 10 "$bufpipe" $command "/x$bytes" 2>err </dev/null
		expect_status 1 $? $command
		expect_said err 'this path has 109 bytes, and that of a Unix socket at most 108'
		timeout 20 "$bufpipe" $command --wait 0 "@$bytes" 2>err </dev/null
		expect_status 7 $? $command
	done
}

# A service manager with Accept=yes passes a connection in place of the listening socket.
accepted_already()
{
	timeout 20 python3 - "$bufpipe" 2>err <<'EOF'
import os, socket, sys
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
keep = os.dup2(ours.fileno(), 9)
os.dup2(theirs.fileno(), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], [sys.argv[1], "recv", "systemd:"])
EOF
	expect_status 1 $?
	expect_said err 'Accept=no'
	timeout 10 "$bufpipe" recv systemd: 2>err
	expect_status 1 $?
	expect_said err 'no such socket was passed'
}

expect_usage()
{
	timeout 10 "$bufpipe" "$@" >out 2>err </dev/null
	expect_status 2 $? "bufpipe $*"
	[ -s err ] || fail "bufpipe $*: silent"
	[ ! -s out ] || fail "bufpipe $*: $(cat out)"
}

usage()
{
	expect_usage
	expect_usage no-such-command
	expect_usage --no-such-option
	expect_usage help no-such-command
	expect_usage help send recv
	expect_usage send
	expect_usage recv
	expect_usage send "$name" more
	expect_usage send --no-such-option "$name"
	expect_usage recv --lines "$name"
	expect_usage send --lines --block 4K "$name"
	expect_usage send --keep "$name"
	expect_usage recv --buffer 1024G "$name"
	expect_said err 'more than the memory of this machine'
	for size in 0 -1 x 1X 1KK '' ' 1' 2000000000000 1025G 99999999999999999999 K; do
		expect_usage send --block "$size" "$name"
		expect_usage recv --buffer "$size" "$name"
	done
	for seconds in -1 x '' nan 1e99 1s; do
		expect_usage recv --wait "$seconds" "$name"
	done
	expect_usage recv no-address
	expect_said err "not an address for recv: use @name, /path, ./path, fd:N, systemd: or systemd:NAME"
	expect_usage send no-address
	expect_said err "not an address for send: use @name, /path or ./path\$"
	expect_usage send fd:0
	expect_usage demo more
	expect_usage demo --no-such-option
}

help()
{
	local words

	for words in --help -h help 'help send' 'help recv' 'help demo' 'help help' 'send --help' \
		'recv -h' 'demo --help' --version -V 'send -V' 'recv --version' 'demo -V' 'list -V' 'ls --version' \
		'show -V' 'top -V'; do
		# shellcheck disable=SC2086
		"$bufpipe" $words >out 2>err
		expect_status 0 $? "$words"
		[ -s out ] || fail "$words: nothing"
		[ ! -s err ] || fail "$words: $(cat err)"
		# shellcheck disable=SC2086
		"$bufpipe" $words >/dev/full 2>err
		expect_status 1 $? "$words to a full disk"
	done
}

progress()
{
	local receiver

	head -c 3000000 /dev/zero >in
	"$bufpipe" recv --progress "$name" >out 2>recv.err &
	receiver=$!
	timeout 60 script -qec "{ sleep 0.7; cat in; } | '$bufpipe' send --progress '$name'" typescript \
		</dev/null >screen
	expect_status 0 $? send
	finish $receiver
	expect_status 0 $? recv
	expect_same in out
	expect_said screen '2.86 MiB .*B/s .* 0:0'
	[ ! -s recv.err ] || fail "progress without a terminal: $(cat recv.err)"
}

command -v python3 >/dev/null || {
	strangers() { echo "skipped: no python3"; }
	foreign_listeners() { echo "skipped: no python3"; }
	accepted_already() { echo "skipped: no python3"; }
}
command -v script >/dev/null || {
	progress() { echo "skipped: no script(1)"; }
	progress_line() { echo "skipped: no script(1)"; }
}

run usage help keep keep_ends keep_loses_one merge exec_both exec_of_each exec_fails exec_told tees rate_limit \
	progress progress_line few_descriptors strangers foreign_listeners stopped_listener no_sockets \
	long_addresses accepted_already
