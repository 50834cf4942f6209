#!/bin/bash
# SPDX-License-Identifier: MIT
# bufpipe bridge over JetStream, when the server can store no more:
# test-stream-full.sh PATH-OF-BUFPIPE PATH-OF-PUMP [TEST...]

set -u
# For the test that fills a disk.
if [ -z "${BRIDGE_TEST_MOUNTS-}" ] && unshare --mount mount -t tmpfs tmpfs /mnt 2>/dev/null; then
	BRIDGE_TEST_MOUNTS=1 exec unshare --mount "$0" "$@"
fi

# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"
# shellcheck disable=SC2034 # for begin
with_streams=yes

# When the quota of the server is full, the sender waits.  It goes on when there is room again.
full_quota()
{
	stop_server
	start_server 'max_file_store: 2MB'
	open_full 'refuses'
	stop_server
	start_server
	go_on_when_full
}

# The same with a full disk.  nats-server 2.9 then answers nothing, and only SIGKILL ends it.
full_disk()
{
	if [ -z "${BRIDGE_TEST_MOUNTS-}" ]; then
		echo "skipped: no mounts of our own"
		return
	fi
	stop_server
	mount -t tmpfs -o size=6m tmpfs jetstream
	# By default the server would use at most three quarters of the disk.
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

# open_full WORDS: sends more than the server can store, until the bridge reports it with these words.
open_full()
{
	bridge near --from "$name-a" --to "$url/$test$query"
	program from send "$name-a" 20000 1000
	eventually grep -q "$1" near.err
	is_running "$from" || fail "the sender did not wait"
}

go_on_when_full()
{
	bridge far --from "$url/$test$query" --to "$name-b"
	program to recv "$name-b"
	finish "$from"
	finish "$to"
	close_bridges
	expect_received to.out 20000
}

# When a stream has reached its own limit, the sender waits.
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
	expect_status 1 $? "a bridge that could not store everything"
}

start_server
[ $# -le 2 ] || run_tests "${@:3}"
run_tests full_quota full_disk full_stream
