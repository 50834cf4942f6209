#!/bin/sh
# SPDX-License-Identifier: MIT
# Checks every model, and every mutant, which the check must reject.
# With the argument 'long', larger bounds are checked as well.
set -u

# One check: the result that is expected (pass or reject), the model, and what to define.
one() {
	want=$1 model=$2
	shift 2
	name="$model${*:+ $*}"
	dir=$(mktemp -d) || exit 1
	trap 'rm -rf "$dir"' EXIT
	trap 'exit 1' HUP INT TERM
	cp "$here/$model.pml" "$dir" && cd "$dir" || exit 1

	if ! { spin -a "$@" "$model.pml" && gcc -O1 -w -DSAFETY -DMEMLIM=2500 -o pan pan.c; } \
		>build 2>&1; then
		echo "FAILED $name: does not build"
		cat build
		exit 1
	fi
	./pan >out 2>&1
	states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' out)

	# If an assertion about the limits of the model itself fails, this does not reject the algorithm.
	if grep -q 'assertion violated.*q_full' out || ! grep -q 'errors: [0-9]' out; then
		echo "FAILED $name: the model broke"
	elif grep -Eq '^pan:1: (invalid end state|assertion violated)' out; then
		if [ "$want" = reject ]; then
			echo "ok $name: rejected as it must be"
			exit 0
		fi
		echo "FAILED $name: $(grep -m1 '^pan:1:' out)"
	elif grep -Eq 'not completed|too small|reached -DMEMLIM' out || ! grep -q 'errors: 0' out; then
		echo "FAILED $name: search cut off after $states states"
	elif [ "$want" = pass ]; then
		echo "ok $name: $states states"
		exit 0
	else
		echo "FAILED $name: a mutant passed, $states states"
	fi
	exit 1
}

here=$(cd "$(dirname "$0")" && pwd) || exit 1
if [ "${1-}" = one ]; then
	shift
	one "$@"
fi

list='
pass wait
pass wait -DSLEEP_FOREVER
pass wait -DFENCE
pass wait -DFENCE -DSLEEP_FOREVER
pass wait -DNEED_FENCE
pass wait -DNEED_FENCE -DSLEEP_FOREVER
pass wait -DFENCE -DNEED_FENCE
pass wait -DNEED=2 -DN=4
reject wait -DNO_MEMBARRIER -DSLEEP_FOREVER
reject wait -DNO_DOORBELL_MEMBARRIER
reject wait -DUNREGISTERED
reject wait -DEVENTS_AFTER_LOOK -DSLEEP_FOREVER
reject wait -DRAISE_ONCE -DSLEEP_FOREVER
reject wait -DNO_DOORBELL_RAISE
reject wait -DRUNG_FORGETS_MODE
reject wait -DDRAIN_AFTER_RAISE
reject wait -DNEED_FENCE -DQUIET_HAS_FENCE_BIT
reject wait -DNEED_FENCE -DLATE_ATTACH
pass lock -DROUNDS=1
pass lock -DP=2
pass lock -DUNBOUNDED -DDEATH_INSIDE -DROUNDS=1
pass lock -DUNBOUNDED -DALWAYS_WAITERS
reject lock -DUNBOUNDED -DROUNDS=1
reject lock -DNO_PENDING -DROUNDS=1
reject lock -DUNBOUNDED -DDEATH_INSIDE -DNO_DEATH_WAKE
reject lock -DUNBOUNDED -DDEATH_INSIDE -DFORGET_WAITERS
pass aside
reject aside -DOVERWRITES
reject aside -DWAKES_FIRST
reject aside -DSLEEPS_UNCOMPARED
pass turn
pass turn -DP=2 -DROUNDS=3
pass turn -DFENCE
pass turn -DBLIND
reject turn -DNO_MEMBARRIER
reject turn -DLOOK_FIRST
reject turn -DNO_PENDING
reject turn -DNO_WAITERS_BIT
pass shared -DN=1
pass shared -DSLEEP_FOREVER
pass shared -DSENDER_DIES -DN=1
reject shared -DTRY_LOWERS
reject shared -DANYONE_LOWERS
reject shared -DNO_HAND_ON
reject shared -DNO_DOORBELL_RAISE
reject shared -DRUNG_FORGETS_MODE
reject shared -DSENDER_DIES -DRUNG_FIRST -DN=1
reject shared -DSENDER_DIES -DSTRICT -DN=1
pass doorbell -DBLOCKED
pass doorbell -DFD
pass doorbell -DBLOCKED -DFD -DN=1
pass doorbell -DFD -DSET -DN=1 -DALIVE -DTRIMS=0
pass doorbell -DBLOCKED -DSET -DN=1 -DALIVE -DTRIMS=0
pass doorbell -DFD -DPEEKER
pass doorbell -DFD -DDEATH
pass doorbell -DBLOCKED -DLEADER_DIES -DN=1
pass doorbell -DBLOCKED -DLEADER_DIES -DADDS_MODE -DN=1
reject doorbell -DFD -DTRIM_ALL
reject doorbell -DFD -DTWO_TRIM
reject doorbell -DBLOCKED -DSET -DN=1 -DALIVE -DDRAINS
reject doorbell -DFD -DTAKE_LATE
reject doorbell -DBLOCKED -DTAKE_LATE
reject doorbell -DFD -DNO_MEMBARRIER
reject doorbell -DBLOCKED -DNO_MEMBARRIER
reject doorbell -DFD -DNO_HANG_UP_LOOK
reject doorbell -DBLOCKED -DNO_HANG_UP_LOOK
reject doorbell -DFD -DPEEKER -DNO_ARM_WHEN_BUSY
reject doorbell -DFD -DDEATH -DNO_RECOVERY_RING
pass wants
pass wants -DDIES
reject wants -DOVERWRITES
reject wants -DNO_NUMBER
reject wants -DMODES_IGNORED
reject wants -DMODE_LATE
reject wants -DUNCOUNTED
pass fence
pass fence -DWEAK
pass fence -DWAITERS=2 -DN=2
reject fence -DEARLY_FENCED
reject fence -DKEEPS_FENCED
reject fence -DHALF_FENCED
reject fence -DNO_FENCE
reject fence -DONE_LOAD
reject fence -DNO_MEMBARRIER
reject fence -DWAITERS=2 -DN=2 -DNOT_SOLE
pass stop
reject stop -DWAKE_ONCE
reject stop -DLOOKS_FIRST
reject stop -DNO_WAITER_FENCE
reject stop -DNO_STOPPER_FENCE
pass look
pass look -DROOM
reject look -DLOOK_ONCE
reject look -DROOM -DHEAD_ONCE
reject look -DROOM -DTAIL_FIRST
reject look -DROOM -DUNSIGNED
'
if [ "${1-}" = long ]; then
	list="$list
pass wait -DN=4
pass lock
pass turn -DROUNDS=2
pass shared
pass shared -DSLEEP_FOREVER -DN=3
pass shared -DSENDER_DIES -DSLEEP_FOREVER
"
fi

echo "$list" | sed '/^$/d' | xargs -P 2 -L 1 "$here/run.sh" one
