# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the tests of the command use.  The directory of the test is $dir.

# The name of the test that runs, and how many checks have failed.
test=
failures=0

fail()
{
	echo "FAIL: $test: $*"
	failures=$((failures + 1))
}

expect_status()
{
	[ "$2" -eq "$1" ] || fail "status $2 instead of $1${3:+ ($3)}"
}

expect_same()
{
	cmp "$1" "$2" || fail "$2 differs from $1"
}

expect_said()
{
	grep -q -- "$2" "$1" || fail "no '$2' in: $(cat "$1")"
}

expect_silence()
{
	[ ! -s "$1" ] || fail "$1: $(cat "$1")"
}

# Waits up to 30 seconds until a command succeeds.
eventually()
{
	local tries=3000

	while [ $tries -gt 0 ]; do
		"$@" && return 0
		tries=$((tries - 1))
		sleep 0.01
	done
	fail "never: $*"
	return 1
}

has_bytes()
{
	[ "$(stat -c %s "$1" 2>/dev/null || echo 0)" -ge "$2" ]
}

listens()
{
	grep -qF -- "$1" /proc/net/unix
}

# Whether a background job runs.  Not kill -0: the number of one that has ended may be somebody else's by now.
is_running()
{
	jobs -rp | grep -qx "$1"
}

# The status of a background job, which is killed if it takes too long.
finish()
{
	local tries=6000

	while [ $tries -gt 0 ] && is_running "$1"; do
		tries=$((tries - 1))
		sleep 0.01
	done
	if is_running "$1" && kill -9 "$1" 2>/dev/null; then
		fail "process $1 hung"
	fi
	wait "$1"
}
