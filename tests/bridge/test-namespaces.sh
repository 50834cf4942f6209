#!/bin/bash
# SPDX-License-Identifier: MIT
# Bridges on ten hosts, and a network that fails now and then.  The hosts are network
# namespaces: test-namespaces.sh PATH-OF-BUFPIPE PATH-OF-PUMP

set -u
hosts=10

# The script has a namespace of its own.  All interfaces disappear with it.
if [ -z "${BRIDGE_TEST_INSIDE-}" ]; then
	{ command -v ip && command -v unshare && command -v nsenter; } >/dev/null || { echo "skipped: no ip(8), unshare(1) or nsenter(1)"; exit 77; }
	unshare --net ip link add name cable0 type veth peer name cable1 2>/dev/null ||
		{ echo "skipped: no network namespaces"; exit 77; }
	BRIDGE_TEST_INSIDE=1 exec unshare --net "$0" "$@"
fi

# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"

# make_host NUMBER: a namespace, and a virtual cable to the namespace of the server.
make_host()
{
	unshare --net sleep 1000 &
	host[$1]=$!
	net[$1]=/proc/${host[$1]}/ns/net
	eventually has_namespace "$1"
	ip link add name "cable$1" type veth peer name eth0 netns "${host[$1]}"
	ip addr add "10.0.$1.1/24" dev "cable$1"
	ip link set "cable$1" up
	on "$1" ip addr add "10.0.$1.2/24" dev eth0
	on "$1" ip link set eth0 up
}

has_namespace()
{
	[ "$(readlink "${net[$1]}")" != "$(readlink /proc/self/ns/net)" ]
}

# on NUMBER COMMAND...: runs COMMAND on that host.
on()
{
	nsenter --net="${net[$1]}" "${@:2}"
}

# everybody QUERY: one host sends and nine receive, while cables are pulled out and put back.
everybody()
{
	local i pids=()

	for ((i = 1; i < hosts; i++)); do
		XDG_STATE_HOME=$dir/state$i nsenter --net="${net[i]}" "$bufpipe" bridge --from "nats://10.0.$i.1:$port/$test$1" --to @far 2>>"far$i.err" &
		far[i]=$!
		nsenter --net="${net[i]}" "$pump" recv @far >"to$i.out" &
		pids+=($!)
	done
	[ "$1" ] || eventually has_subscribers "$test" $((hosts - 1))
	nsenter --net="${net[0]}" "$bufpipe" bridge --from @near --to "nats://10.0.0.1:$port/$test$1" 2>>near.err &
	near=$!
	nsenter --net="${net[0]}" "$pump" send @near "$messages" -1000 100 >from.out &
	pids+=($!)
	for _ in $(seq "$(some 5 2)"); do
		some_time 10 30
		i=$((RANDOM % hosts))
		ip link set "cable$i" down
		some_time 10 50
		ip link set "cable$i" up
	done
	for i in "${pids[@]}"; do
		finish "$i"
	done
	stop_bridge "$near"
	for ((i = 1; i < hosts; i++)); do
		stop_bridge "${far[i]}"
	done
}

in_a_stream()
{
	local i

	everybody "?stream=$test&create"
	for ((i = 1; i < hosts; i++)); do
		expect_received "to$i.out" "$messages"
	done
}

in_core()
{
	local i

	everybody ''
	for ((i = 1; i < hosts; i++)); do
		expect_said "to$i.out" 'duplicated 0 reordered 0 corrupted 0'
		[ $(($(received "to$i.out") + $(counted "far$i" lost))) -eq "$messages" ] ||
			fail "host $i: not $messages: $(cat "to$i.out" "far$i.err")"
	done
}

host=()
net=()
far=()
ip link set lo up
for ((i = 0; i < hosts; i++)); do
	make_host "$i"
done
# shellcheck disable=SC2034 # for start_server
server_host=0.0.0.0
start_server
messages=$(some 20000 8000)
run_tests in_a_stream in_core
