#!/bin/bash
# SPDX-License-Identifier: MIT
# Bridges on ten hosts, which are network namespaces here, and a network that fails
# now and then: test-namespaces.sh PATH-OF-BUFPIPE PATH-OF-PUMP

set -u
hosts=10

# All hosts are in a namespace of this test, and end with it.
if [ -z "${BRIDGE_TEST_INSIDE-}" ]; then
	{ command -v ip && command -v unshare && command -v nsenter; } >/dev/null || { echo "skipped: no ip(8), unshare(1) or nsenter(1)"; exit 77; }
	unshare --net ip link add name cable0 type veth peer name cable1 2>/dev/null ||
		{ echo "skipped: no network namespaces"; exit 77; }
	BRIDGE_TEST_INSIDE=1 exec unshare --net "$0" "$@"
fi

# shellcheck source=support.sh
. "$(dirname "$0")/support.sh"

# make_host NUMBER: makes a namespace, and connects it with that of the server by a pair of interfaces.
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

# on NUMBER COMMAND...: runs it on that host.
on()
{
	nsenter --net="${net[$1]}" "${@:2}"
}

# One host sends, and nine receive everything, while interfaces go down and come up again.
everybody()
{
	local i pids=()

	for ((i = 1; i < hosts; i++)); do
		XDG_STATE_HOME=$dir/state$i nsenter --net="${net[i]}" "$bufpipe" bridge --from "nats://10.0.$i.1:$port/$test$1" --to @far 2>>"far$i.err" &
		far[i]=$!
		nsenter --net="${net[i]}" "$pump" recv @far >"to$i.out" &
		pids+=($!)
	done
	sleep 1
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
		expect_said "to$i.out" 'doubled 0 disordered 0 damaged 0'
		lost=$(counted "far$i" lost)
		received=$(sed -n 's/^received \([0-9]*\) .*/\1/p' "to$i.out")
		[ $((received + lost)) -eq "$messages" ] || fail "host $i: received $received, lost $lost: $(cat "far$i.err")"
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
