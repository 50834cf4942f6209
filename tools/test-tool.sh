#!/bin/bash
# SPDX-License-Identifier: MIT
# The bufpipe command, end to end: test-tool.sh PATH-OF-BUFPIPE
# The variables without quotes are process ids, and words without blanks.
# shellcheck disable=SC2086

# shellcheck source=test-transfers.sh
. "$(dirname "$0")/test-transfers.sh"

# transfer ADDRESS INPUT SEND-OPTIONS...: the receiver first, then the sender.
transfer()
{
	local address=$1 input=$2 receiver

	shift 2
	"$bufpipe" recv "$address" >out 2>recv.err &
	receiver=$!
	timeout 60 "$bufpipe" send "$@" "$address" <"$input" 2>send.err
	expect_status 0 $? "send: $(cat send.err)"
	finish $receiver
	expect_status 0 $? "recv: $(cat recv.err)"
	expect_same "$input" out
}

receiver_first()
{
	head -c 20000000 /dev/urandom >in
	transfer "$name" in
}

sender_first()
{
	local sender

	head -c 20000000 /dev/urandom >in
	"$bufpipe" send "$name" <in 2>send.err &
	sender=$!
	sleep 0.4
	timeout 60 "$bufpipe" recv "$name" >out 2>recv.err
	expect_status 0 $? "recv: $(cat recv.err)"
	finish $sender
	expect_status 0 $? "send: $(cat send.err)"
	expect_same in out
}

sizes()
{
	local len

	for len in 0 1 4095 65536 1048576 1048577; do
		head -c $len /dev/urandom >in
		transfer "$name" in
		transfer "$name" in --lines
		transfer "$name" in --block 1
		[ $len -lt 5000 ] || break
	done
	for len in 65536 1048576 1048577 5000000; do
		head -c $len /dev/urandom >in
		transfer "$name" in --block 1G
		transfer "$name" in --lines
		transfer "$name" in --buffer 4K
		transfer "$name" in --buffer 4K --lines
	done
}

tar_through_path()
{
	local receiver

	mkdir tree unpacked
	head -c 3000000 /dev/urandom >tree/data
	ln -s data tree/link
	mkdir tree/directory
	seq 100000 >tree/directory/numbers
	"$bufpipe" recv "$path" | tar x -C unpacked &
	receiver=$!
	tar c tree | timeout 60 "$bufpipe" send "$path"
	expect_status 0 "${PIPESTATUS[1]}" send
	finish $receiver
	expect_status 0 $? recv
	diff -r tree unpacked/tree || fail "what was unpacked differs"
	[ ! -e "$path" ] || fail "the socket is still there"
}

lines()
{
	printf 'one\n\n\ntwo\0with zero\nlast without newline' >in
	transfer "$name" in --lines
	seq 500000 >in
	transfer "$name" in --lines
	# Lines that are longer than the pipe, between short ones.
	{
		echo short
		head -c 3000000 /dev/zero | tr '\0' x
		echo
		echo short
		head -c 2000000 /dev/zero | tr '\0' y
	} >in
	transfer "$name" in --lines --buffer 64K
}

# A line comes out while the sender is still there.
lines_at_once()
{
	local receiver sender

	mkfifo fifo
	"$bufpipe" recv "$name" >out 2>recv.err &
	receiver=$!
	"$bufpipe" send --lines "$name" <fifo 2>send.err &
	sender=$!
	exec 7>fifo
	echo first >&7
	eventually has_bytes out 6
	echo second >&7
	eventually has_bytes out 13
	exec 7>&-
	finish $sender
	expect_status 0 $? send
	finish $receiver
	expect_status 0 $? recv
}

killed_sender()
{
	local receiver sender

	mkfifo fifo
	"$bufpipe" recv "$name" >out 2>recv.err &
	receiver=$!
	"$bufpipe" send "$@" "$name" <fifo 2>send.err &
	sender=$!
	exec 7>fifo
	echo something >&7
	eventually has_bytes out 10
	kill -9 $sender
	finish $receiver
	expect_status 6 $?
	expect_said recv.err 'the sender ended before the end'
	echo something | cmp - out || fail "what had been sent is not there"
	exec 7>&-
	wait $sender 2>/dev/null
}

killed_sender_of_lines()
{
	killed_sender --lines
}

killed_receiver()
{
	local receiver sender

	"$bufpipe" recv "$name" >out 2>recv.err &
	receiver=$!
	"$bufpipe" send "$@" "$name" </dev/zero 2>send.err &
	sender=$!
	eventually has_bytes out 100000
	kill -9 $receiver
	finish $sender
	expect_status 5 $?
	expect_said send.err 'the receiver ended before it had everything'
	wait $receiver 2>/dev/null
}

# The sender has sent everything, but nobody reads the output of the receiver.
killed_receiver_at_the_end()
{
	local receiver sender

	mkfifo fifo
	exec 7<>fifo
	"$bufpipe" recv "$name" >fifo 2>recv.err &
	receiver=$!
	head -c 200000 /dev/zero >in
	"$bufpipe" send "$name" <in 2>send.err &
	sender=$!
	sleep 0.5
	kill -0 $sender || fail "the sender did not wait"
	kill -9 $receiver
	finish $sender
	expect_status 5 $?
	expect_said send.err 'the receiver ended before it had everything'
	exec 7>&-
	wait $receiver 2>/dev/null
}

# When nobody reads the output any more, both end without a message, as in a pipeline of the shell.
closed_output()
{
	local sender

	"$bufpipe" send "$name" </dev/zero 2>send.err &
	sender=$!
	{
		timeout 60 "$bufpipe" recv "$name" 2>recv.err
		echo $? >status
	} | head -c 1000000 >out
	finish $sender
	expect_status 141 $? send
	expect_silence send.err
	eventually has_bytes status 4
	expect_status 141 "$(cat status)" recv
	expect_silence recv.err
}

full_output()
{
	local sender

	seq 10 >in
	"$bufpipe" send "$name" <in 2>send.err &
	sender=$!
	timeout 60 "$bufpipe" recv "$name" 2>recv.err >/dev/full
	expect_status 1 $? recv
	expect_said recv.err 'standard output: No space left'
	finish $sender
	expect_status 5 $? send
	expect_said send.err "the receiver could not write everything"
}

bad_input()
{
	local receiver

	"$bufpipe" recv "$name" 2>recv.err >out &
	receiver=$!
	timeout 60 "$bufpipe" send "$name" 2>send.err </
	expect_status 1 $? send
	expect_said send.err 'standard input: Is a directory'
	finish $receiver
	expect_status 5 $? recv
}

# The slow reader has everything before the sender ends.
sender_waits()
{
	local receiver

	head -c 300000 /dev/urandom >in
	{
		"$bufpipe" recv "$name"
		echo $? >status
	} | {
		sleep 0.5
		cat >out
	} &
	receiver=$!
	timeout 60 "$bufpipe" send "$name" <in
	expect_status 0 $?
	finish $receiver
	expect_status 0 "$(cat status)" recv
	expect_same in out
}

signals()
{
	local signal number receiver sender

	for signal in HUP:1 INT:2 TERM:15; do
		number=${signal#*:}
		signal=${signal%:*}
		"$bufpipe" recv "$path" 2>recv.err >out &
		receiver=$!
		eventually test -S "$path"
		kill -s "$signal" $receiver
		finish $receiver
		expect_status $((128 + number)) $? "recv and SIG$signal"
		[ ! -e "$path" ] || fail "the socket is still there after SIG$signal"

		"$bufpipe" send "$path" </dev/zero 2>send.err &
		sender=$!
		sleep 0.2
		kill -s "$signal" $sender
		finish $sender
		expect_status $((128 + number)) $? "send that waits and SIG$signal"
	done

	"$bufpipe" recv "$path" 2>recv.err >out &
	receiver=$!
	"$bufpipe" send "$path" </dev/zero 2>send.err &
	sender=$!
	eventually has_bytes out 100000
	kill $sender
	finish $sender
	expect_status 143 $? "send at work"
	finish $receiver
	expect_status 6 $? recv
	expect_said recv.err 'the sender ended before the end'
	[ ! -e "$path" ] || fail "the socket is still there"
}

stale_socket()
{
	local receiver

	"$bufpipe" recv "$path" >out 2>recv.err &
	receiver=$!
	eventually test -S "$path"
	kill -9 $receiver
	wait $receiver 2>/dev/null
	[ -S "$path" ] || fail "SIGKILL left no socket"
	seq 1000 >in
	transfer "$path" in
	[ ! -e "$path" ] || fail "the socket is still there"
}

taken_address()
{
	local receiver

	"$bufpipe" recv "$path" >out 2>recv.err &
	receiver=$!
	eventually test -S "$path"
	timeout 10 "$bufpipe" recv "$path" 2>err
	expect_status 1 $?
	expect_said err "process $receiver (bufpipe) listens there already"
	kill $receiver
	finish $receiver
	echo data >file
	timeout 10 "$bufpipe" recv ./file 2>err
	expect_status 1 $?
	[ "$(cat file)" = data ] || fail "the file was touched"
}

# Many senders connect to one address, and each gets a receiver. Some of them connect first to a receiver that then
# serves another sender.
many_senders()
{
	local i round senders

	for round in 1 2 3 4 5; do
		senders=()
		for i in $(seq 10 29); do
			echo "$round $i" | "$bufpipe" send "$name" 2>"send$i.err" &
			senders+=($!)
		done
		for i in $(seq 10 29); do
			timeout 60 "$bufpipe" recv "$name" >>out 2>recv.err
			expect_status 0 $? "recv: $(cat recv.err)"
		done
		for i in "${senders[@]}"; do
			finish "$i"
			expect_status 0 $? "send: $(cat send*.err)"
		done
		for i in $(seq 10 29); do
			echo "$round $i" >>in
		done
	done
	sort out >sorted
	expect_same in sorted
}

waits_end()
{
	timeout 10 "$bufpipe" send --wait 0 "$name" 2>err </dev/null
	expect_status 7 $?
	expect_said err 'nobody listens there'
	timeout 10 "$bufpipe" send --wait 0.3 "$name" 2>err </dev/null
	expect_status 7 $?
	expect_said err 'nobody came in time'
	timeout 10 "$bufpipe" recv --wait 0.3 "$path" 2>err
	expect_status 7 $?
	expect_said err 'nobody came in time'
	[ ! -e "$path" ] || fail "the socket is still there"
}

no_wait()
{
	local receiver

	seq 100 >in
	"$bufpipe" recv "$name" >out 2>recv.err &
	receiver=$!
	eventually listens "$name"
	timeout 60 "$bufpipe" send --wait 0 "$name" <in
	expect_status 0 $? send
	finish $receiver
	expect_same in out
}

too_large_wish()
{
	local receiver

	"$bufpipe" recv --buffer 64K "$name" >out 2>recv.err &
	receiver=$!
	eventually listens "$name"
	timeout 60 "$bufpipe" send --buffer 1M "$name" </dev/null 2>err
	expect_status 4 $?
	expect_said err 'the receiver allows less'
	kill $receiver
	finish $receiver
}

# Not a function: the background job would then be a shell, and the program its child.
as_nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)

other_users()
{
	local receiver

	# In a directory that every user can read.
	cp "$bufpipe" tool
	ldd "$bufpipe" | sed -n 's/.*=> \(.*libbufpipe[^ ]*\) .*/\1/p' | xargs -r cp -t .
	chmod -R a+rX .
	export LD_LIBRARY_PATH=$dir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	echo nobody >theirs
	echo root >ours
	./tool recv "$name" >out 2>recv.err &
	receiver=$!
	"${as_nobody[@]}" timeout 10 ./tool send "$name" <theirs 2>err
	expect_status 4 $? "send as nobody"
	expect_said err 'the receiver refused this user'
	"${as_nobody[@]}" timeout 10 ./tool send --any-user "$name" <theirs 2>err
	expect_status 4 $? "send as nobody"
	expect_said err 'the receiver refused this user'
	timeout 10 ./tool send "$name" <ours
	expect_status 0 $? "send as root"
	finish $receiver
	expect_status 0 $? recv
	expect_said recv.err 'refused user 65534'
	expect_same ours out

	./tool recv --any-user "$name" >out 2>recv.err &
	receiver=$!
	"${as_nobody[@]}" timeout 10 ./tool send "$name" <theirs 2>err
	expect_status 0 $? "send as nobody: $(cat err)"
	finish $receiver
	expect_status 0 $? recv
	expect_same theirs out

	"${as_nobody[@]}" ./tool recv "$name" >out 2>recv.err &
	receiver=$!
	timeout 10 ./tool send "$name" <ours 2>err
	expect_status 4 $? "send as root to nobody"
	expect_said err 'refused user 65534'
	# The receiver reports nothing, and still waits.
	timeout 10 ./tool send --any-user "$name" <ours 2>err
	expect_status 0 $? "send as root to nobody: $(cat err)"
	finish $receiver
	expect_status 0 $? recv
	expect_same ours out
	expect_silence recv.err

	# 65534 may be the user nobody, or any user that this namespace does not know.
	"${as_nobody[@]}" ./tool recv "$name" >out 2>recv.err &
	receiver=$!
	"${as_nobody[@]}" timeout 10 ./tool send --any-user "$name" <theirs 2>err
	expect_status 4 $? "send as nobody to nobody"
	expect_said err 'the receiver refused this user'
	kill $receiver
	finish $receiver
	expect_said recv.err 'refused user 65534'
	unset LD_LIBRARY_PATH
}

closed_input()
{
	local receiver

	"$bufpipe" recv "$name" >out 2>recv.err &
	receiver=$!
	timeout 20 "$bufpipe" send "$name" <&- 2>err
	expect_status 1 $? "$(cat err)"
	expect_said err 'standard input'
	finish $receiver
	expect_status 5 $? recv
}

demo()
{
	timeout 60 "$bufpipe" demo >out 2>err
	expect_status 0 $? "$(cat err)"
	cat out
	expect_said out 'every byte is right'
	expect_said out 'round trip'
}

if [ "$(id -u)" -ne 0 ] || ! command -v setpriv >/dev/null; then
	other_users() { echo "skipped: needs root and setpriv(1)"; }
fi

run receiver_first sender_first sizes tar_through_path lines lines_at_once killed_sender \
	killed_sender_of_lines killed_receiver killed_receiver_at_the_end closed_input closed_output full_output \
	bad_input sender_waits signals stale_socket taken_address many_senders waits_end no_wait \
	too_large_wish other_users demo
