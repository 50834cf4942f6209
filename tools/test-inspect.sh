#!/bin/bash
# SPDX-License-Identifier: MIT
# list and show, beside real pipes and memory that lies: test-inspect.sh PATH-OF-BUFPIPE PATH-OF-BUFPIPE-SCENE

set -u
bufpipe=$(realpath "$1")
scene=$(realpath "$2")
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
# shellcheck source=tools/test-support.sh
. "$(dirname "$0")/test-support.sh"
cd "$dir" || exit 1
name=@bufpipe-inspect-$$

# ask PROCESS EXPRESSION: a value of 'list --json', of the rings that the process holds; r is the first that it sends.
ask()
{
	"$bufpipe" list --json --pid "$1" 2>/dev/null | python3 -c '
import json, sys
d = json.load(sys.stdin)
pid = int(sys.argv[1])
sent = [r for r in d["rings"] if any(p["pid"] == pid for p in r["sender"]["processes"])]
r = sent[0] if sent else None
print(eval(sys.argv[2]) if r else "none")' "$@" 2>/dev/null
}

is()
{
	[ "$(ask "$1" "$2")" = "$3" ]
}

# Whether no line of a file is longer than 80 columns.
is_narrow()
{
	[ "$(awk '{ if (length > n) n = length } END { print n + 0 }' "$1")" -le 80 ] || fail "more than 80 columns: $(cat "$1")"
}

# Starts a receiver, and a sender that has nothing to send yet. Sets sender, receiver, and descriptor 9 for its input.
begin()
{
	test=$1
	echo "---- $test"
	mkfifo "$test.in"
	"$bufpipe" recv "$name-$test" >"$test.out" 2>recv.err &
	receiver=$!
	"$bufpipe" send --buffer 64K "$name-$test" <"$test.in" 2>send.err &
	sender=$!
	exec 9>"$test.in"
	eventually is $sender 'r["receiver"]["processes"][0]["pid"]' $receiver
}

end()
{
	exec 9>&-
	finish $sender
	expect_status 0 $? "send: $(cat send.err)"
	finish $receiver
	expect_status 0 $? "recv: $(cat recv.err)"
}

test_both_ends_are_found()
{
	begin both
	"$bufpipe" list >listed 2>list.err
	expect_status 0 $? 'list'
	"$bufpipe" ls >listed2 2>ls.err
	expect_status 0 $? 'ls'
	expect_said listed "bufpipe-send *generic *$sender bufpipe.*  *$receiver bufpipe"
	expect_said listed2 "bufpipe-recv *generic *$receiver bufpipe.*  *$sender bufpipe"
	"$bufpipe" list --pid $$ >listed 2>list.err
	expect_status 8 $? 'list --pid'
	expect_said list.err "process $$ holds no pipe"
	grep -q bufpipe listed && fail "this shell holds no pipe"
	"$bufpipe" list --stuck --name no-such-name >listed 2>list.err
	expect_status 8 $? 'list --name'
	expect_said list.err "no pipe named 'no-such-name'"
	grep -q "$sender" listed && fail "not of this name"
	# A name is found whichever end has it.
	"$bufpipe" list --name bufpipe-recv --pid $sender >listed
	expect_status 0 $? 'list --name'
	[ "$(wc -l <listed)" = 3 ] || fail "not both directions: $(cat listed)"
	"$bufpipe" show $sender >shown
	expect_status 0 $? 'show'
	expect_said shown "held by *$sender (bufpipe)"
	expect_said shown "held by *$receiver (bufpipe)"
	expect_said shown 'the receiver waits'
	"$bufpipe" show "$(ask $sender 'r["sender"]["inode"]')" >shown
	expect_status 0 $? 'show of a number'
	expect_said shown "held by *$sender (bufpipe)"
	"$bufpipe" list --stuck --pid $sender >listed
	expect_status 0 $? 'nothing is stuck'
	"$bufpipe" list --pid $sender >listed
	expect_said listed ' generic '
	printf 'hello' >&9
	eventually is $sender 'r["receiver"]["messages"] >= 1 and r["messages"]' 0
	end
	is $sender 'r' none || fail 'it is still there'
}

test_a_stopped_receiver()
{
	begin stopped
	kill -STOP $receiver
	head -c 1000000 /dev/zero >&9 &
	eventually is $sender 'r["sender"]["asleep_ns"] > 0' True
	is $sender 'r["state"]' receiver-stopped || fail "state: $(ask $sender 'r["state"]')"
	is $sender 'r["used"] > 0 and r["used"] <= r["size"]' True || fail "used: $(ask $sender 'r["used"]')"
	"$bufpipe" list --stuck=0.5 --pid $sender >listed
	expect_status 3 $? 'it is stuck'
	expect_said listed 'recv stopped, full '
	COLUMNS=80 "$bufpipe" list --stuck --pid $sender >listed
	expect_said listed 'recv stopped'
	is_narrow listed
	"$bufpipe" show $sender >shown
	expect_said shown "the sender has waited for room for .*the receiver, pid $receiver (bufpipe), is stopped"
	kill -CONT $receiver
	eventually is $sender 'r["used"]' 0
	"$bufpipe" list --stuck --pid $sender >listed
	expect_status 0 $? 'it is stuck no more'
	end
	[ "$(stat -c %s stopped.out)" = 1000000 ] || fail 'not all came'
}

# says NAME WORDS: whether that is in the verdict of show on the pipe.
says()
{
	"$bufpipe" show "$1" >shown 2>&1
	grep -qE "verdict .*$2" shown
}

expect_verdict()
{
	says "$@" || fail "$1: no '$2' in: $(cat shown)"
}

# The states of pipes that an operator has to tell apart.
test_verdicts()
{
	local actors sender heir

	test=verdicts
	echo "---- $test"
	mkfifo stage
	"$scene" <stage >scene.out &
	actors=$!
	exec 8>stage
	eventually grep -qs ' ' scene.out
	read -r sender heir <scene.out

	eventually says scene-no-handover 'the sender has waited for room'
	expect_verdict scene-no-handover "the receiver, pid .* does not receive fast enough"
	expect_said shown "held by .*$sender ("
	"$bufpipe" list --stuck=0 --pid "$sender" >listed
	expect_status 3 $? 'a full pipe'
	expect_said listed 'scene-no-handover .* full '

	# Only the child that inherited the end keeps the stream from ending, so show must name it.
	expect_verdict scene-leaked 'no side waits'
	expect_said shown "held by    $heir ([a-z-]*)\$"
	expect_said shown '; 1 message; '
	"$bufpipe" top -b -n 1 -d 0.01 --name scene-leaked >tables
	expect_status 0 $? top
	expect_said tables '^1 ring, '
	expect_verdict scene-no-sender 'nobody holds the sending end any more; unread: [1-9]'
	expect_verdict scene-no-receiver 'nobody holds the receiving end any more; unread: [1-9]'
	"$bufpipe" list --stuck --name scene-no-receiver >listed
	expect_status 3 $? 'nobody receives'
	expect_said listed 'recv gone'
	"$bufpipe" list --stuck --name scene-no-sender >listed
	expect_status 0 $? 'what is there can still be received'

	exec 8>&-
	finish $actors
	expect_status 0 $? scene
}

test_top()
{
	begin top
	head -c 100000 /dev/zero >&9
	COLUMNS=80 timeout 60 "$bufpipe" top -b -n 3 -d 0.2 >tables 2>top.err
	expect_status 0 $? "top: $(cat top.err)"
	[ "$(grep -c '^ *PIPE ' tables)" = 3 ] || fail 'not three tables'
	expect_said tables "$sender bu"
	is_narrow tables
	timeout 60 "$bufpipe" top -b -n 1 --pid $sender --sort fill >tables 2>top.err
	expect_status 0 $? "top: $(cat top.err)"
	[ "$(wc -l <tables)" = 4 ] || fail "other pipes, too: $(cat tables)"
	"$bufpipe" top >tables 2>top.err
	expect_status 2 $? 'no terminal'
	timeout --signal=INT 1 "$bufpipe" top -b >tables 2>top.err
	end
}

# The feeder of the busiest pipe sends no more than 70,000 bytes in each 50 ms, and something now and then.
rates_are_right()
{
	"$bufpipe" list --json --rate=1 --sort rate --pid $sender >list.json 2>list.err
	expect_status 0 $? "list --rate: $(cat list.err)"
	python3 - list.json $sender <<'END'
import json, sys
rings = json.load(open(sys.argv[1]))['rings']
rates = [r['messages_per_second'] for r in rings]
assert rates == sorted(rates, reverse=True)
assert any(p['pid'] == int(sys.argv[2]) for p in rings[0]['sender']['processes'])
assert rings[0]['bytes_per_second'] < 70000 * 25, rings
sys.exit(not (rings[0]['bytes_per_second'] > 0 and rates[0] > 0))
END
}

# Even the first table shows rates.
first_table_has_rates()
{
	"$bufpipe" top -b -n 1 --pid $sender | grep -qE '[0-9.]+[KM] +[0-9]+% +[0-9]+% '
}

# The rate is that of the time between the two looks, and the busiest pipe comes first.
test_rates()
{
	local feeder i

	begin rates
	while printf '%070000d' 0; do sleep 0.05; done >&9 2>/dev/null &
	feeder=$!
	eventually rates_are_right 2>python.err || fail "$(cat python.err list.json)"
	COLUMNS=80 "$bufpipe" list --rate=0.1 --sort time --pid $sender >listed
	expect_status 0 $? 'list --rate'
	expect_said listed 'MSG/S'
	is_narrow listed
	eventually first_table_has_rates
	kill $feeder
	wait $feeder 2>/dev/null
	for i in pipe name fill time; do
		"$bufpipe" list --sort $i --pid $sender >listed
		expect_status 0 $? "list --sort $i"
		[ "$(wc -l <listed)" = 3 ] || fail "list --sort $i: $(cat listed)"
	done
	"$bufpipe" list --json --pid $sender | grep -q per_second && fail 'a rate without --rate'
	end
}

# It opens no file for writing, makes no mapping of a file that it could write, and does nothing to other processes.
test_nothing_is_touched()
{
	if ! strace -o trace true 2>/dev/null; then
		echo '---- touch: skipped, strace(1) cannot trace here'
		return
	fi
	begin touch
	# A process can have one tracer. That is strace here, so LeakSanitizer cannot attach.
	ASAN_OPTIONS=detect_leaks=0 timeout 100 strace -f -o trace "$bufpipe" top -b -n 3 -d 0.2 >tables 2>top.err
	expect_status 0 $? "top: $(cat top.err)"
	expect_said tables "$sender bu"
	grep -E 'open(at|at2)?\(' trace | grep -E 'O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)' &&
		fail 'it opens for writing'
	grep -E 'mmap\(.*PROT_WRITE.*MAP_SHARED' trace && fail 'it maps for writing'
	grep -E '(^|[0-9 ])(kill|tkill|tgkill|pidfd_[a-z_]*|ptrace|process_[a-z]*|rt_(tg)?sigqueueinfo|perf_event_open|bpf|futex_wake|connect|sendmsg|sendto)\(' trace &&
		fail 'it does something to others'
	end
}

# cpu_of_a_transfer NAME: the CPU time, in milliseconds, in which a sender and a receiver move 100 MB.
cpu_of_a_transfer()
{
	python3 - "$bufpipe" "$1" <<'END'
import resource, subprocess, sys
receiver = subprocess.Popen([sys.argv[1], 'recv', sys.argv[2]], stdout=subprocess.DEVNULL)
data = subprocess.Popen(['head', '-c', '100000000', '/dev/zero'], stdout=subprocess.PIPE)
sender = subprocess.Popen([sys.argv[1], 'send', sys.argv[2]], stdin=data.stdout)
data.stdout.close()
assert sender.wait() == 0 and receiver.wait() == 0 and data.wait() == 0
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(int((used.ru_utime + used.ru_stime) * 1000))
END
}

# Watching a busy pipe costs the pipe nothing. The test compares CPU time, which does not contain what top itself uses.
# But CPU time depends on how much each side spins. So the test compares the cheapest of several transfers, and
# tolerates a large difference.
test_busy_beside_top()
{
	local watcher i used alone=1000000 watched=1000000

	test=busy
	echo "---- $test"
	for i in 1 2 3; do
		used=$(cpu_of_a_transfer "$name-busy") || fail 'a transfer alone'
		[ "$used" -ge "$alone" ] || alone=$used
		"$bufpipe" top -b -d 0.01 >tables 2>top.err &
		watcher=$!
		used=$(cpu_of_a_transfer "$name-busy") || fail 'a transfer beside top'
		[ "$used" -ge "$watched" ] || watched=$used
		kill $watcher
		finish $watcher
		expect_status 143 $? "top: $(cat top.err)"
	done
	echo "CPU time: $alone ms alone, $watched ms beside top"
	[ "$watched" -le $((4 * alone + 200)) ] || fail 'it is much dearer to be watched'
}

# Senders and receivers are killed while top watches them: each table is still complete.
test_top_through_a_storm()
{
	local watcher i pids

	test=storm
	echo "---- $test"
	"$bufpipe" top -b -d 0.01 >tables 2>top.err &
	watcher=$!
	for i in $(seq 1 30); do
		"$bufpipe" recv "$name-storm$i" >/dev/null 2>&1 &
		pids=$!
		"$bufpipe" send "$name-storm$i" </dev/zero >/dev/null 2>&1 &
		pids="$pids $!"
		[ $((i % 3)) -ne 0 ] || sleep 0.05
		# shellcheck disable=SC2086 # two numbers
		kill -9 $pids
	done
	eventually grep -q 'PIPE' tables
	kill $watcher
	finish $watcher
	expect_status 143 $? "top: $(cat top.err)"
	awk '!/^(1 ring|[0-9]+ rings), (1 process|[0-9]+ processes) not seen$/ && !/^ +PIPE / && !/^ *[0-9]+ .*%/ { bad = 1; print }
		END { exit bad }' tables || fail 'a line that is none'
	LC_ALL=C grep -q '[^ -~]' tables && fail 'it prints what is no text'
}

# Processes that come and go cause no error in list, and list causes no error in them.
test_races_of_exit()
{
	local i lists=0

	test=races
	echo "---- $test"
	for i in $(seq 1 40); do
		"$bufpipe" recv "$name-race$i" >/dev/null 2>>race.err &
		echo x | "$bufpipe" send "$name-race$i" 2>>race.err &
	done
	while [ -n "$(jobs -r)" ] && [ $lists -lt 200 ]; do
		"$bufpipe" list --json >list.json 2>list.err || fail "list: $(cat list.err)"
		python3 -m json.tool list.json >/dev/null || fail 'no JSON'
		lists=$((lists + 1))
	done
	wait
	[ ! -s race.err ] || fail "$(cat race.err)"
}

# Regions with a layout that we know, in which all other words are random.
test_numbers_that_lie()
{
	local liar i

	test=lies
	echo "---- $test"
	cat >liar.py <<'END'
import fcntl, os, random, struct, sys, time
LAYOUT = int(sys.argv[1])
random.seed(int(sys.argv[2]))
page = os.sysconf('SC_PAGESIZE')
keep = []
for i in range(200):
    fd = os.memfd_create('liar\x1b[31m"\n' + str(i), os.MFD_ALLOW_SEALING)
    size = page + 65536 if i % 4 else random.choice([0, 8, page - 1, page, 1 << 50])
    os.ftruncate(fd, size)
    identity = struct.pack('<QIIQQQQ', 0x65706970667562, LAYOUT if i % 8 else random.randrange(1 << 32), random.randrange(8),
                           random.choice([8, 65536, 1 << 63]), random.choice([0, 8]), random.choice([65536, 0, 1 << 63, 7]),
                           random.choice([8, 65528, 65536, 0]))
    if i % 4:
        identity = struct.pack('<QIIQQQQ', 0x65706970667562, LAYOUT, 3, 32768, 0, 65536, 32776)
    rest = bytes(random.choice([0, 255, random.randrange(256)]) for _ in range(1152 - 48))
    if size >= 1152:
        os.pwrite(fd, identity, 0)
        os.pwrite(fd, rest, 48)
        # Each region names the one before as its peer; for two of three, the one before names it as well.
        os.pwrite(fd, struct.pack('<Q', os.fstat(keep[-1]).st_ino if keep else os.fstat(fd).st_ino), 896)
        if keep and i % 3:
            os.pwrite(keep[-1], struct.pack('<Q', os.fstat(fd).st_ino), 896)
    keep.append(fd)
print('ready', flush=True)
time.sleep(600)
END
	begin honest
	for i in 1 2 3; do
		python3 liar.py "$(ask $sender 'r["layout"]')" $i >liar$i.out &
		liar=$!
		eventually grep -qs ready liar$i.out
		"$bufpipe" list --json >list.json 2>list.err
		expect_status 0 $? "list: $(cat list.err)"
		python3 - list.json $liar <<'END' || fail 'a number that cannot be'
import json, sys
d = json.load(open(sys.argv[1]))
rings = [r for r in d['rings'] if any(p['pid'] == int(sys.argv[2]) for p in r['sender']['processes'])]
assert rings
for r in rings:
    assert r['used'] <= r['size'] and r['high_water'] <= r['size'] and r['messages'] * 8 <= r['used']
    assert all(' ' <= c <= '~' for c in r['name'])
END
		"$bufpipe" list >listed 2>list.err
		expect_status 0 $? 'list'
		LC_ALL=C grep -q '[^ -~]' listed && fail 'it prints what is no text'
		COLUMNS=80 "$bufpipe" top -b -n 2 -d 0.05 >tables 2>top.err
		expect_status 0 $? "top: $(cat top.err)"
		LC_ALL=C grep -q '[^ -~]' tables && fail 'it prints what is no text'
		is_narrow tables
		COLUMNS=80 "$bufpipe" list --rate=0.1 --sort rate >listed 2>list.err
		expect_status 0 $? 'list --rate'
		is_narrow listed
		"$bufpipe" show $liar >shown 2>&1
		expect_status 0 $? 'show'
		LC_ALL=C grep -q '[^ -~]' shown && fail 'it prints what is no text'
		is $sender 'r["receiver"]["processes"][0]["pid"]' $receiver || fail 'the honest pipe is not what it was'
		kill $liar
		wait $liar 2>/dev/null
	done
	end
}

# A table fills a terminal and is not wider: what does not fit is cut or left out.
test_widths()
{
	local width

	if ! command -v script >/dev/null; then
		echo '---- widths: skipped, there is no script(1)'
		return
	fi
	begin widths
	for width in 80 160; do
		script -qec "stty cols $width; '$bufpipe' list --pid $sender" typescript </dev/null >screen
		tr -d '\r' <screen >listed
		expect_said listed "$sender bu"
		script -qec "stty cols $width; '$bufpipe' top --pid $sender -d 0.1 -n 1" typescript </dev/null >screen
		expect_said screen 'sort: '
		tr -d '\r' <screen | sed 's/\x1b\[[HJ]//g' >>listed
		[ "$(awk '{ if (length > n) n = length } END { print n }' listed)" -le $width ] ||
			fail "more than $width columns: $(cat listed)"
	done
	expect_said listed 'bufpipe-recv *generic '
	end
}

test_usage()
{
	local words

	test=usage
	echo "---- $test"
	for words in 'list x' 'list --pid' 'list --pid x' 'list --stuck=x' 'list --nonsense' 'list --sort x' 'list --rate=x' 'list --rate=-1' 'list --rate=0' 'list --rate=0.001' 'top -d 0' 'top --pid x' 'top --sort x' 'top -n 1x' show 'show a b' 'show --x' 'top x' 'top -n 0' 'top -d x'; do
		# shellcheck disable=SC2086 # the words are the arguments
		"$bufpipe" $words >out 2>err
		expect_status 2 $? "$words"
		expect_said err 'bufpipe'
	done
	"$bufpipe" show no-such-pipe >out 2>err
	expect_status 8 $? 'show of nothing'
	"$bufpipe" list --help >out
	expect_status 0 $? 'help'
	expect_said out 'usage: bufpipe list'
	"$bufpipe" list >/dev/full 2>err
	expect_status 1 $? 'a full disk'
}

test_both_ends_are_found
test_a_stopped_receiver
test_verdicts
test_top
test_rates
test_nothing_is_touched
test_busy_beside_top
test_top_through_a_storm
test_races_of_exit
test_numbers_that_lie
test_widths
test_usage
[ $failures -eq 0 ]
