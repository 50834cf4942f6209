#!/bin/bash
# SPDX-License-Identifier: MIT
# Who may use bufpipe bridge, how it is started, and how it reports what is wrong:
# test-guard.sh PATH-OF-BUFPIPE PATH-OF-PUMP [TEST...]

set -u
# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"

# expect_usage WORDS ARGUMENT...: the bridge refuses these arguments at once, and its message has these words.
expect_usage()
{
	local words=$1

	shift
	timeout 20 "$bufpipe" bridge "$@" >out 2>err </dev/null
	expect_status 2 $? "bufpipe bridge $*"
	expect_said err "$words"
	[ ! -s out ] || fail "bufpipe bridge $*: $(cat out)"
}

wrong_arguments()
{
	local u=nats://127.0.0.1:1

	expect_usage 'both --from and --to'
	expect_usage 'both --from and --to' --from @a
	expect_usage 'one of --from and --to is a pipe' --from @a --to @b
	expect_usage 'one of --from and --to is a pipe' --from "$u/a" --to "$u/b"
	expect_usage 'no subject' --from @a --to "$u"
	expect_usage 'no subject' --from @a --to "$u/"
	expect_usage 'no server' --from @a --to nats:///x
	expect_usage 'a pipe is' --from name --to "$u/x"
	expect_usage 'a pipe is' --from file --to "$u/x"
	expect_usage 'is empty' --from @a --to "$u/a..b"
	expect_usage 'is empty' --from @a --to "$u/.b"
	expect_usage 'is empty' --from @a --to "$u/b."
	expect_usage 'blanks' --from @a --to "$u/a b"
	expect_usage 'keeps subjects' --from @a --to "$u/\$JS.API"
	expect_usage 'with \* or >' --from @a --to "$u/a.*"
	expect_usage 'with \* or >' --from @a --to "$u/a.>"
	expect_usage 'whole part' --from "$u/a.b*" --to @a
	expect_usage 'last part' --from "$u/a.>.b" --to @a
	expect_usage 'one subject' --from "$u/a.>?stream=S" --to @a
	expect_usage 'with \* or >' --duplex --from "$u/a.>" --to @a
	expect_usage 'need a stream' --from "$u/a?create" --to @a
	expect_usage 'need a stream' --from "$u/a?start=first" --to @a
	expect_usage 'the parameters are' --from "$u/a?color=red" --to @a
	expect_usage 'create and nohold' --from "$u/a?color" --to @a
	expect_usage 'is named by' --from "$u/a?stream=a.b" --to @a
	expect_usage 'is named by' --from "$u/a?stream=" --to @a
	for start in 0 -1 x 2026-01-31 1x; do
		expect_usage 'start is' --from "$u/a?stream=S&start=$start" --to @a
	done
	expect_usage 'does not go with it' --from "$u/a?stream=S&queue=q&start=first" --to @a
	expect_usage 'side that receives' --from @a --to "$u/a?queue=q"
	expect_usage 'side that publishes' --from "$u/a?nohold" --to @a
	expect_usage 'rate takes the word original' --rate fast --from "$u/a?stream=S" --to @a
	expect_usage 'from a stream' --rate original --from "$u/a" --to @a
	expect_usage 'exclude each other' --listen --connect --from "$u/a" --to @a
	expect_usage 'buffer is a size' --buffer 0 --from "$u/a" --to @a
	expect_usage 'longest is a size' --longest 2G --from "$u/a" --to @a
	expect_usage 'number of seconds' --give-up soon --from "$u/a" --to @a
	expect_usage 'go together' --tls-cert x --from "$u/a" --to @a
	expect_usage 'all arguments are options' --from "$u/a" --to @a more
	expect_usage 'no-such-option' --no-such-option
	expect_usage 'do not go with it' --config x --from "$u/a" --to @a
}

# A bridge does not wait for a descriptor to become a listening socket.
no_socket()
{
	timeout 20 "$bufpipe" bridge --from fd:0 --to "nats://127.0.0.1:1/x" 2>err </dev/null
	expect_status 1 $? 'no socket'
	expect_said err 'fd:0: Socket operation on non-socket'
}

# The bridge accepts no secret where every user can read it.
secrets_in_arguments()
{
	expect_usage 'no user or password in the address' --from @a --to nats://user:secret@127.0.0.1/x
	expect_usage 'no user or password in the address' --from @a --to nats://token@127.0.0.1/x
	echo password=secret >open
	chmod 644 open
	timeout 20 "$bufpipe" bridge --auth open --from @a --to "$url/x" 2>err
	expect_status 1 $?
	expect_said err 'everybody may read it'
}

help_is_printed()
{
	"$bufpipe" bridge --help >out || fail "no help"
	expect_said out 'stream=NAME'
	"$bufpipe" help bridge >out || fail "no help"
	expect_said out 'bufpipe-bridge(1)'
}

# Without bufpipe-bridge, the command says which package to install.
bridge_not_installed()
{
	local library

	library=$(ldd "$bufpipe" | sed -n 's/.*=> \(.*libbufpipe[^ ]*\) .*/\1/p')
	mkdir alone
	cp "$bufpipe" alone
	LD_LIBRARY_PATH=$(dirname "$library") PATH=$dir/alone alone/bufpipe bridge --from @a --to "$url/x" 2>err
	expect_status 1 $?
	expect_said err 'bufpipe-bridge is not installed; .* package bufpipe-bridge'
}

# transfer NAME-OF-CASE OPTION...: a hundred messages go through two bridges.
transfer()
{
	local case=$1

	shift
	open_bridges "$@"
	program to recv "$name-b"
	program from send "$name-a" 100 100
	finish "$to"
	finish "$from"
	expect_received to.out 100
	close_bridges
	[ "$failures" -eq 0 ] || echo "in case $case: $(cat near.err far.err)"
}

# refused OPTION...: the bridge gives up within a minute, and says why in the file err.
refused()
{
	timeout 60 "$bufpipe" bridge --from "$name-x" --to "$url/$test" --give-up 1 "$@" 2>err
	expect_status 1 $? "$*"
	[ -s err ] || fail "$*: silent"
}

passwords()
{
	stop_server
	start_server '' 'authorization { user: fred, password: "s3cret" }'
	refused
	expect_said err '[Aa]uth'
	NATS_USER=fred NATS_PASSWORD=wrong refused
	expect_said err '[Aa]uth'
	NATS_USER=fred NATS_PASSWORD=s3cret transfer environment
	printf '# who\nuser=fred\npassword=s3cret\n' >auth
	chmod 600 auth
	transfer file --auth auth
	! grep -q s3cret ./*.err || fail "the password is in a message"
	stop_server
	start_server '' 'authorization { token: "t0ken" }'
	refused
	NATS_TOKEN=t0ken transfer token
	stop_server
	start_server
}

# Nkeys, and credentials that an operator has signed.
nkeys()
{
	if ! { command -v openssl && command -v python3; } >/dev/null; then
		echo "skipped: no openssl(1) or no python3"
		return
	fi
	mkdir keys others
	for each in keys others; do
		"$here/nkeys.py" "$each" || fail "no keys"
	done
	stop_server
	start_server '' "authorization { users: [ { nkey: $(cat keys/user.pub) } ] }"
	refused
	NATS_NKEY=$(cat keys/user.pub) NATS_SEED=others/user.seed refused
	NATS_NKEY=$(cat keys/user.pub) NATS_SEED=keys/user.seed transfer nkey
	printf 'nkey=%s\nseed=%s\n' "$(cat keys/user.pub)" keys/user.seed >auth
	chmod 600 auth
	transfer 'nkey in a file' --auth auth
	stop_server
	start_server '' "$(cat keys/operator.conf)"
	refused
	NATS_CREDS=absent.creds refused
	NATS_CREDS=others/user.creds refused
	NATS_CREDS=keys/user.creds transfer credentials
	! grep -qf keys/user.seed ./*.err || fail "the seed is in a message"
	stop_server
	start_server
}

# A stopped server accepts the connection of a bridge, but never answers.
stopped_server()
{
	kill -STOP "$server"
	refused
	expect_said err '[Tt]imeout'
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 100 100
	eventually grep -q 'trying again' near.err
	kill -CONT "$server"
	finish "$from"
	finish "$to"
	expect_received to.out 100
	close_bridges
}

# A message longer than --longest is not sent, and breaks the pipe of its program.
message_too_long()
{
	bridge near --from "$name-a" --to "$url/$test?nohold" --longest 1M --buffer 64K
	program from send "$name-a" 1 1048577
	eventually grep -q 'a message of 1048577 bytes; --longest allows 1048576' near.err
	kill -KILL "$from"
	stop_bridge "$near"
}

# If the user may not publish to the subject, the bridge says so and names the subject.
permissions()
{
	stop_server
	start_server '' 'authorization { users: [ { user: fred, password: p, permissions: { publish: "allowed.>" } } ] }'
	export NATS_USER=fred NATS_PASSWORD=p
	bridge near --from "$name-a" --to "$url/forbidden"
	eventually grep -qi 'permissions violation' near.err
	expect_said near.err forbidden
	kill "$near"
	finish "$near"
	unset NATS_USER NATS_PASSWORD
	stop_server
	start_server
}

certificates()
{
	if ! command -v openssl >/dev/null; then
		echo "skipped: no openssl(1)"
		return
	fi
	for each in good other; do
		openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
			-keyout "$each.key" -out "$each.crt" 2>/dev/null
	done
	stop_server
	start_server '' "tls { cert_file: \"$dir/good.crt\", key_file: \"$dir/good.key\" }"
	refused
	refused --tls-ca other.crt
	expect_said err '[Cc]ertificate\|SSL'
	transfer right --tls-ca good.crt
	url=tls://127.0.0.1:$port transfer scheme --tls-ca good.crt
	# A client certificate, too.
	stop_server
	start_server '' "tls { cert_file: \"$dir/good.crt\", key_file: \"$dir/good.key\", ca_file: \"$dir/other.crt\", verify: true }"
	refused --tls-ca good.crt
	transfer client --tls-ca good.crt --tls-cert other.crt --tls-key other.key
	stop_server
	start_server
}

server_not_there()
{
	timeout 60 "$bufpipe" bridge --from "$name-x" --to nats://127.0.0.1:1/x --give-up 0.5 2>err
	expect_status 1 $?
	expect_said err '127.0.0.1:1'
	# Without --give-up it waits until there is a server.
	stop_server
	open_bridges
	program to recv "$name-b"
	program from send "$name-a" 100 100
	eventually grep -q 'trying again' near.err
	start_server
	finish "$from"
	finish "$to"
	expect_received to.out 100
	close_bridges
}

# If the directory of the pipe does not exist, the bridge says so and waits for it.
directory_not_there()
{
	bridge near --from ./absent/pipe --to "$url/$test"
	eventually grep -q 'absent/pipe: No such file or directory; trying again' near.err
	mkdir absent
	eventually test -S absent/pipe
	stop_bridge "$near"
}

# One bridge serves many pipes.  One that cannot work does not disturb the others.
many_pipes()
{
	local i senders=() receivers=()

	{
		echo '# from, to'
		echo
		echo "--from $name-hopeless --to nats://127.0.0.1:1/x"
		for i in 1 2 3 4 5 6 7 8; do
			echo "--from $name-a$i --to $url/$test.$i"
			echo "--from $url/$test.$i --to $name-b$i --buffer 64K"
		done
	} >pipes
	bridge all --config pipes
	# Nobody receives from this pipe, so its sender waits.
	program stuck send "$name-a8" 100000000 1000
	for i in 1 2 3 4 5 6 7; do
		"$pump" recv "$name-b$i" >"to$i.out" &
		receivers+=($!)
		"$pump" send "$name-a$i" 5000 -500 >/dev/null &
		senders+=($!)
	done
	for i in "${senders[@]}" "${receivers[@]}"; do
		finish "$i"
	done
	for i in 1 2 3 4 5 6 7; do
		expect_received "to$i.out" 5000
	done
	is_running "$stuck" || fail "the sender without a receiver did not wait"
	kill -KILL "$stuck"
	kill "$all"
	finish "$all"
	echo "--from $name-a" >pipes
	timeout 20 "$bufpipe" bridge --config pipes 2>err
	expect_status 2 $?
	expect_said err 'pipes:1: both'
}

# Unless told otherwise, a bridge serves only programs of its own user and of root.
other_users_are_refused()
{
	if [ "$(id -u)" -ne 0 ] || ! command -v setpriv >/dev/null; then
		echo "skipped: needs root and setpriv(1)"
		return
	fi
	cp "$pump" pump
	ldd "$pump" | sed -n 's/.*=> \(.*libbufpipe[^ ]*\) .*/\1/p' | xargs -r cp -t .
	chmod -R a+rX .
	bridge near --from "$name-a" --to "$url/$test"
	eventually listens "${name#@}-a"
	LD_LIBRARY_PATH=$dir setpriv --reuid 65534 --regid 65534 --clear-groups ./pump send "$name-a" 1 8 >/dev/null 2>&1 &
	eventually grep -q 'refused user 65534' near.err
	kill $!
	kill "$near"
	finish "$near"
}

# With messages of 1 MiB and a receiver that is too slow, each bridge uses less than 64 MiB.
memory_is_limited()
{
	local peak pid stream

	for stream in '' "?stream=$test&create"; do
		bridge far --from "$url/$test$stream" --to "$name-b"
		bridge near --from "$name-a" --to "$url/$test$stream"
		program to recv "$name-b" 20000
		program from send "$name-a" 60 1048576
		finish "$from"
		sleep 1
		for pid in "$(worker_of "$near")" "$(worker_of "$far")"; do
			peak=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status")
			echo "${stream:-core}: $peak KiB"
			[ "$peak" -lt 65536 ] || fail "${stream:-core}: $peak KiB"
		done
		finish "$to"
		expect_received to.out 60
		close_bridges
	done
}

# With --progress a bridge reports while it works, and not only at the end.
progress_is_reported()
{
	bridge far --from "$url/$test" --to "$name-b"
	bridge near --from "$name-a" --to "$url/$test" --progress
	program to recv "$name-b"
	program from send "$name-a" 300 100 10000
	finish "$to"
	[ "$(grep -c 'sent: ' near.err)" -ge 2 ] || fail "no progress: $(cat near.err)"
	close_bridges
}

start_server
[ $# -le 2 ] || run_tests "${@:3}"
run_tests wrong_arguments no_socket secrets_in_arguments help_is_printed bridge_not_installed passwords nkeys permissions certificates server_not_there \
	stopped_server message_too_long directory_not_there many_pipes other_users_are_refused memory_is_limited progress_is_reported
