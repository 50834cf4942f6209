#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Transports that hang, crash, leave, garble or refuse: the benchmark names each with its reason, and goes on.

BUFPIPE_BENCH names the benchmark with the transports of broken.c.
"""

import collections
import glob
import json
import os
import resource
import subprocess
import unittest

BENCH = os.environ["BUFPIPE_BENCH"]
BROKEN = ("hangs", "crashes", "leaves", "garbles", "refuses")
# The good transports have to be done in this time on a busy machine too.
GRACE = ["--grace", "5"]
LIMIT = 300


def processes_of_session(session):
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[3]) == session:
            found.append(path)
    return found


class Failures(unittest.TestCase):
    def measure(self, *arguments):
        """The result, what was written to standard error, and the reasons of each broken transport."""
        command = [BENCH, "--quick", "--rounds", "1", "--time", "5", "--placement", "one", *GRACE, "--json", "-", *arguments]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        ) as bench:
            output, errors = bench.communicate(timeout=LIMIT)
        self.assertEqual([], processes_of_session(bench.pid))
        self.assertEqual(1, bench.returncode, errors)
        tables, text = output.split("\n{\n", 1)
        result = json.loads("{" + text)
        self.assertFalse(result["complete"])
        reasons = collections.defaultdict(list)
        for failure in result["failures"]:
            reasons[failure["transport"]].append(failure["reason"])
            self.assertIn(failure["reason"], tables)
        return result, errors, reasons

    def check(self, result, errors, reasons, expected):
        """Each broken transport fails twice for its reason and is left out; the good ones are in every cell."""
        self.assertEqual(set(expected), set(reasons), errors)
        for name, pattern in expected.items():
            self.assertEqual(2, len(reasons[name]), errors)
            for reason in reasons[name]:
                self.assertRegex(reason, pattern)
            self.assertIn(f"{name} is left out from here on", errors)
        cells = collections.Counter(sample["transport"] for sample in result["samples"])
        self.assertEqual(set(), set(BROKEN) & set(cells))
        left_out = collections.Counter(line["transport"] for line in result["left_out"])
        self.assertEqual({name: cells["pipe"] - 2 for name in expected}, left_out)

    def test_pairs_of_processes(self):
        result, errors, reasons = self.measure("--tests", "trip", "--sizes", "8,64,512,4096")
        expected = {
            "hangs": "^no end in sight",
            "crashes": "^echo: died of signal 6, ",
            "leaves": "^echo: exited with status 0 before it was done$",
            "garbles": "^echo: message 1 begins with .* torn$",
            "refuses": "^open: No space left on device$",
        }
        self.check(result, errors, reasons, expected)
        cells = collections.Counter(sample["transport"] for sample in result["samples"])
        self.assertEqual({"pipe": 4, "socketpair": 4}, cells)
        failure = result["failures"][0]
        self.assertEqual(("trip", "one", 8, 0), tuple(failure[key] for key in ("test", "placement", "size", "round")))

    def test_many_processes(self):
        result, errors, reasons = self.measure("--tests", "many")
        expected = {
            "hangs": r"^no end in sight, \d+ of \d+ still run, given up$",
            "crashes": r"^receiver \d: died of signal 6, ",
            "leaves": r"^receiver \d: exited with status 0 before it was done$",
            # Not the broken pipe of the sender, which is a consequence.
            "garbles": r"^receiver \d: a message is torn$",
            "refuses": "^open: No space left on device$",
        }
        self.check(result, errors, reasons, expected)

    def test_a_grace_that_is_no_time_is_refused(self):
        for value in ("0", "-1", "x"):
            done = subprocess.run([BENCH, "--grace", value], capture_output=True, text=True, timeout=LIMIT, check=False)
            self.assertEqual(2, done.returncode)
            self.assertIn("--grace", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
