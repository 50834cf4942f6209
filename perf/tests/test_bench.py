#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The benchmark itself: what it writes, under which conditions it measures, and that it leaves nothing behind.

Nothing here depends on how fast anything is.  BUFPIPE_BENCH names the program.
"""

import collections
import glob
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BENCH = os.environ["BUFPIPE_BENCH"]
RUN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../run")
QUICK = ["--quick", "--rounds", "1", "--time", "5"]
LIMIT = 300


def run(*arguments):
    """Runs the benchmark and returns its result file, with what it wrote to standard error."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        with subprocess.Popen(
            [BENCH, *QUICK, "--json", file.name, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as bench:
            errors = bench.communicate(timeout=LIMIT)[1]
        if bench.returncode:
            raise AssertionError(f"exit {bench.returncode}: {errors}")
        if groups_of(bench.pid):
            raise AssertionError("a control group is left behind")
        return json.load(file), errors


def groups_of(pid):
    return glob.glob(f"/sys/fs/cgroup/**/bufpipe-bench.{pid}", recursive=True)


def children_of(pid):
    """The processes that a process has started, and theirs."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        if int(text.rsplit(")", 1)[1].split()[1]) == pid:
            child = int(path.split("/")[2])
            found += [child, *children_of(child)]
    return found


def wait_for(condition):
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not happen")
        time.sleep(0.02)


class Transports(unittest.TestCase):
    def test_every_transport_carries_messages(self):
        listed = subprocess.run([BENCH, "--list"], capture_output=True, text=True, check=True).stdout
        names = {line.split()[0] for line in listed.splitlines() if line[0] != " "}
        result, errors = run("--all", "--tests", "trip,set", "--pipes", "10", "--sizes", "64", "--placement", "one")
        missing = names - {sample["transport"] for sample in result["samples"]}
        if "iox-roudi" in errors:  # it can run only once on a machine
            missing.discard("iceoryx")
        missing.discard("mq")  # where the system's limit is used up
        self.assertEqual(set(), missing)

    def test_long_messages(self):
        result, _ = run("--all", "--tests", "stream", "--sizes", "262144", "--placement", "one")
        self.assertIn("bufpipe", {sample["transport"] for sample in result["samples"]})


    def test_list_tells_what_bounds_the_bytes_in_flight(self):
        listed = subprocess.run([BENCH, "--list"], capture_output=True, text=True, check=True).stdout.splitlines()
        for name, room in zip(listed[::2], listed[1::2]):
            self.assertRegex(name, r"^[a-z][a-z-]+ +\S")
            self.assertRegex(room, r"^ +in flight: \S")


class Script(unittest.TestCase):
    """perf/run, in a tree in which everything is built, and nothing needs to be installed."""

    def setUp(self):
        self.tree = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tree)
        with open(RUN, encoding="utf-8") as script:
            self.put("perf/run", script.read())
        self.put("tools/need-packages", "#!/bin/sh\n")
        self.put("bin/ninja", "#!/bin/sh\n")
        self.put("build/perf/build.ninja", "")
        self.put("build/perf/tools/bufpipe", "#!/bin/sh\necho this is the demo\n")
        self.put("build/perf/perf/bufpipe-bench", f'#!/bin/sh\nexec "{os.path.abspath(BENCH)}" "$@"\n')

    def put(self, name, text):
        path = os.path.join(self.tree, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)

    def run_script(self, *arguments):
        path = os.path.join(self.tree, "bin") + ":" + os.environ["PATH"]
        command = [os.path.join(self.tree, "perf/run"), *arguments]
        return subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=LIMIT, check=False)

    def test_wrong_options_are_refused_before_anything_runs(self):
        wrong = (["--bogus"], ["--quick", "bogus"], ["--sizes", "7"], ["--matrix", "bogus"], ["--matrix", "free", "--bogus"], ["--matrix", "--rounds", "0"])
        for arguments in wrong:
            done = self.run_script(*arguments)
            self.assertEqual((2, ""), (done.returncode, done.stdout), arguments)
            self.assertIn("usage: perf/run", done.stderr)
            self.assertIn(next(word for word in arguments[::-1] if not word.isdigit()).strip("-"), done.stderr)

    def test_right_options_reach_the_benchmark(self):
        done = self.run_script("--quick", "--rounds", "1", "--time", "1", "--sizes", "64", "--tests", "trip", "--placement", "one", "--only", "pipe")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("this is the demo", done.stdout)
        self.assertIn("Round trips, one core", done.stdout)


class Results(unittest.TestCase):
    def test_a_transport_that_fails_costs_its_own_cells_alone(self):
        def forbid():  # the ring of a bufpipe, but not what the others need
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))

        command = [BENCH, *QUICK, "--json", "-", "--only", "bufpipe,socketpair", "--tests", "trip,stream", "--sizes", "8,64"]
        bench = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, check=False, preexec_fn=forbid
        )
        self.assertEqual(bench.returncode, 1, bench.stderr)
        self.assertIn("bufpipe is left out", bench.stderr)
        self.assertIn("2 measurements failed", bench.stderr)
        result = json.loads(bench.stdout[bench.stdout.index("\n{") :])  # behind the tables
        self.assertFalse(result["complete"])
        self.assertEqual(["open: File too large"] * 2, [failure["reason"] for failure in result["failures"]])
        cells = collections.Counter(sample["transport"] for sample in result["samples"])
        self.assertEqual(cells["bufpipe"], 0)
        self.assertGreater(cells["socketpair"], 3)
        self.assertEqual(cells["socketpair"], cells["pipe"])

    def test_keys(self):
        result, _ = run("--tests", "trip,asleep,rate,many", "--rates", "1000,5000", "--sizes", "64", "--only", "bufpipe", "--placement", "one")
        self.assertEqual(1, result["format"])
        self.assertTrue(result["complete"])
        self.assertEqual(([], []), (result["failures"], result["left_out"]))
        self.assertEqual({"version", "commit"}, set(result["bufpipe"]))
        for key in ("id", "cpu", "cpus", "kernel", "architecture"):
            self.assertIn(key, result["machine"])
        self.assertRegex(result["date"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(65536, result["parameters"]["ring"])
        for sample in result["samples"]:
            for key in ("test", "placement", "busy", "throttle", "size", "transport", "round", "ns", "cpu_ns", "switches"):
                self.assertIn(key, sample)
        self.assertEqual({1000, 5000}, {sample["rate"] for sample in result["samples"] if sample["test"] == "rate"})

    def test_distributions(self):
        result, _ = run("--tests", "trip,asleep,rate", "--rates", "1000", "--sizes", "64", "--only", "bufpipe", "--placement", "one")
        self.assertEqual(6, len(result["totals"]))
        for total in result["totals"]:
            self.assertEqual(total["count"], sum(count for _, count in total["buckets"]))
            self.assertEqual(sorted(end for end, _ in total["buckets"]), [end for end, _ in total["buckets"]])
            percentiles = [total[key] for key in ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")]
            self.assertEqual(sorted(percentiles), percentiles)
            self.assertGreater(percentiles[0], 0)

    def test_system_calls_of_a_sleeping_pipe(self):
        result, _ = run("--tests", "asleep", "--only", "bufpipe", "--placement", "one")
        if not result["syscalls_counted"]:
            self.skipTest("the kernel does not let us count")
        pipe = next(total for total in result["totals"] if total["transport"] == "pipe")
        # A sleep, a write and a read for each message.
        self.assertGreater(pipe["syscalls"], 2.5)


class Conditions(unittest.TestCase):
    def test_busy_programs_make_cells_of_their_own(self):
        result, _ = run("--tests", "trip", "--sizes", "64", "--only", "bufpipe", "--placement", "one", "--busy", "0,2")
        self.assertEqual({0, 2}, {sample["busy"] for sample in result["samples"]})

    def test_busy_programs_run_and_end(self):
        with subprocess.Popen(
            [BENCH, *QUICK, "--time", "10000", "--tests", "trip", "--sizes", "64", "--placement", "one", "--busy", "3"],
            stdout=subprocess.DEVNULL,
        ) as bench:
            # Three programs on each of one or two CPUs, and the two processes measured.
            wait_for(lambda: len(children_of(bench.pid)) >= 5)
            children = children_of(bench.pid)
            bench.kill()
        wait_for(lambda: not any(os.path.exists(f"/proc/{child}") for child in children))

    def test_least_share_of_a_process(self):
        result, _ = run("--tests", "many", "--only", "bufpipe-shared", "--placement", "one", "--busy", "1")
        crowd = [sample for sample in result["samples"] if sample["senders"] == 8]
        self.assertTrue(crowd)
        for sample in crowd:
            for side in ("send_share", "recv_share"):
                least, median, most = sample[side]
                self.assertTrue(0 <= least <= median <= most)

    def test_throttle(self):
        result, errors = run("--time", "500", "--tests", "stream", "--sizes", "64", "--only", "bufpipe", "--placement", "one", "--throttle", "3")
        if "left out" in errors:
            self.skipTest("no control group may be made here")
        self.assertEqual({3}, {sample["throttle"] for sample in result["samples"]})
        # A machine would have to be very busy to give no more than that by itself.
        self.assertGreater(max(sample["throttled"] for sample in result["samples"]), 0)

    def test_killed_benchmark_leaves_no_group(self):
        with subprocess.Popen(
            [BENCH, *QUICK, "--time", "10000", "--tests", "trip", "--sizes", "64", "--placement", "one", "--throttle", "50"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as bench:
            wait_for(lambda: bench.poll() is not None or (len(children_of(bench.pid)) >= 3))
            made = groups_of(bench.pid)
            bench.send_signal(signal.SIGKILL)
        if not made:
            self.skipTest("no control group may be made here")
        wait_for(lambda: not any(os.path.exists(group) for group in made))

    def test_priorities_make_cells_of_their_own(self):
        wanted = ["normal", "nice-lead", "nice-echo", "fifo-lead", "fifo-echo", "fifo-both"]
        result, errors = run("--tests", "trip", "--sizes", "64", "--only", "bufpipe", "--placement", "one", "--priority", ",".join(wanted))
        if "left out" in errors:
            self.assertTrue(result["priority_refused"])
            wanted = wanted[:3]
        self.assertEqual(set(wanted), {sample.get("priority", "normal") for sample in result["samples"]})

    def test_bad_values_are_refused(self):
        for option, value in (("--priority", "high"), ("--busy", "9"), ("--busy", "-1"), ("--busy", "x"), ("--throttle", "-5"), ("--throttle", "1.5")):
            done = subprocess.run([BENCH, option, value], capture_output=True, text=True, timeout=LIMIT)
            self.assertEqual(2, done.returncode)
            self.assertIn(option, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
