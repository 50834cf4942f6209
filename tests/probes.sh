#!/bin/bash
# SPDX-License-Identifier: MIT
# The static probes: probes.sh LIBRARY PATH-OF-BUFPIPE PAGE
#
# The library must have the probes that the page lists. Where bpftrace and perf work, the recipes of the page must run,
# and the probes of a receiver that sleeps must be seen in order.

set -u
LIB=$(realpath "$1") # the recipes name it so
bufpipe=$(realpath "$2")
page=$3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
# perf stores what it knows about libraries below HOME.
export HOME=$dir
failures=0

fail()
{
	echo "FAIL: $*"
	failures=$((failures + 1))
}

# Waits for up to 20 seconds, or TENTHS, until a line with these words is in a file.
eventually_said()
{
	local tries=${3:-200}

	while ! grep -q -- "$2" "$1" 2>/dev/null; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.1
	done
}

# The names in the first column of the table.
documented()
{
	sed -n 's/^|  \([a-z_]*\)$/\1/p' "$page" | sort
}

listed()
{
	readelf -n "$LIB" | grep -A1 'Provider: bufpipe$' | sed -n 's/.*Name: //p' | sort -u
}

# Commands of the page that begin with this word.
recipes()
{
	sed -n "s/^# \\($1 .*\\)/\\1/p" "$page"
}

# Whether tracing works here. It needs privileges, and does not work in most containers.
bpftrace_works()
{
	command -v bpftrace >/dev/null && timeout 60 bpftrace -l "usdt:$LIB:bufpipe:close" 2>/dev/null | grep -q close &&
		timeout 60 bpftrace -e "BEGIN { exit(); } usdt:$LIB:bufpipe:close { @ = count(); }" >/dev/null 2>&1
}

# Each recipe, which ends by itself after a moment: a signal might come before the tracer is ready for it.
bpftrace_recipes()
{
	local recipe status

	while read -r recipe; do
		echo "$recipe"
		case $recipe in
		*' -e '*) recipe=${recipe%\"}' interval:ms:100 { exit(); }"' ;;
		esac
		(eval "timeout -k 1 60 $recipe") </dev/null >"$dir/out" 2>&1
		status=$?
		case $status in
		0) ;;
		124 | 137) echo "skipped: it did not end in time" ;;
		*) fail "status $status: $(cat "$dir/out")" ;;
		esac
	done < <(recipes bpftrace)
}

# One transfer, and a receiver that sleeps before it. False if the tracer did not see all of it.
traced_transfer()
{
	local name=@bufpipe-probes-$$ receiver sender word all=0

	"$bufpipe" recv "$name" >/dev/null &
	receiver=$!
	"$bufpipe" send --lines "$name" <"$dir/fifo" &
	sender=$!
	exec 7>"$dir/fifo"
	# The tracer may not see anything yet, so this only waits a little.
	eventually_said "$dir/trace" "$receiver sleep_begin" 30
	echo message >&7
	exec 7>&-
	wait $sender || fail "send: status $?"
	wait $receiver || fail "recv: status $?"
	for word in accept sleep_begin 'sleep_end 0' close; do
		eventually_said "$dir/trace" "$receiver $word" 20 || all=1
	done
	return $all
}

receiver_sleeps()
{
	local tracer round

	mkfifo "$dir/fifo"
	bpftrace -B none -e "usdt:$LIB:bufpipe:accept { printf(\"%d accept\\n\", pid); }
		usdt:$LIB:bufpipe:sleep_begin /arg1 == 0/ { printf(\"%d sleep_begin\\n\", pid); }
		usdt:$LIB:bufpipe:sleep_end /arg1 == 0/ { printf(\"%d sleep_end %d\\n\", pid, arg3); }
		usdt:$LIB:bufpipe:close { printf(\"%d close\\n\", pid); }" </dev/null >"$dir/trace" 2>&1 &
	tracer=$!
	if eventually_said "$dir/trace" '^Attaching' 600; then
		for round in {1..12}; do
			traced_transfer && break
			[ "$round" -lt 12 ] || fail "not all was seen: $(cat "$dir/trace")"
		done
	else
		echo "skipped: the tracer did not begin in time"
	fi
	kill -9 $tracer
	wait $tracer 2>/dev/null
}

perf_recipes()
{
	local recipe

	while read -r recipe; do
		echo "$recipe"
		# The events belong to the whole machine. Somebody else may have made or removed the same one.
		(cd "$dir" && eval "timeout 60 $recipe") </dev/null >"$dir/out" 2>&1 || {
			echo "skipped, status $?: $(tail -n 3 "$dir/out")"
			perf probe -d 'sdt_bufpipe:sleep_end' >/dev/null 2>&1
			return
		}
	done < <(recipes perf)
}

[ "$(listed)" ] || { echo "built without probes"; exit 77; }
diff <(documented) <(listed) || fail "the page and the library differ"
if bpftrace_works; then
	bpftrace_recipes
	receiver_sleeps
else
	echo "skipped: bpftrace cannot trace here"
fi
if command -v perf >/dev/null && [ -w /sys/kernel/tracing/uprobe_events ]; then
	perf_recipes
else
	echo "skipped: perf cannot trace here"
fi
exit $((failures > 0))
