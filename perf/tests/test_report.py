#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Reports and comparisons, from results that are made up."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import compare
import results as reading

REPORT = os.path.dirname(os.path.abspath(compare.__file__))
SIZES = (8, 64, 512, 4096, 32768, 262144, 1048576)
# How many times as fast as the Unix pipe each is said to be.
SPEEDS = {"pipe": 1, "bufpipe": 20, "bufpipe-static": 24, "socketpair": 0.8, "ring": 30}
SET_SPEEDS = {"epoll": 1, "set": 9}


def lines(transports, rounds, slower, **cell):
    """A sample for each transport and round, and a total for each transport; our own are slower by a factor."""
    samples, totals = [], []
    for name, speed in transports.items():
        ns = 10000 / speed * (1 + cell["size"] / 10000) * (slower if name.startswith(("bufpipe", "set")) else 1)
        line = {**cell, "transport": name}
        percentiles = dict(zip(reading.PERCENTILES, (ns, 1.2 * ns, 2 * ns, 8 * ns, 40 * ns)))
        for k in range(rounds):
            noise = 1 + 0.02 * k
            sample = {"round": k, "ns": ns * noise, "cpu_ns": 2 * ns * noise, "recv_cpu_ns": ns * noise, "switches": 2, "recv_switches": 1, **percentiles}
            if cell["test"] == "many":
                sample.update(send_share=[0.2, 1, 1.4], recv_share=[0.9, 1, 1.1])
            if "pipes" in cell:
                sample.update(setup_ns=90000, memory=12345, kernel_memory=678)
            if cell["throttle"]:
                sample["throttled"] = 0.4
            samples.append({**line, **sample})
        buckets = [[math.ceil(ns * factor), count] for factor, count in ((0.9, 500), (1, 400), (1.2, 90), (2, 9), (8, 1))]
        totals.append({**line, **percentiles, "syscalls": 4, "count": 1000, "buckets": buckets})
    return samples, totals


def made_up(path, slower=1.0, rounds=3, machine="0123", others=0.01, form=1, conditions=((0, 0), (1, 0), (0, 50))):
    cells = []
    for busy, throttle in conditions:
        at = {"busy": busy, "throttle": throttle}
        cells += [{**at, "test": test, "placement": place, "size": size} for test in ("trip", "stream") for place in ("two", "one") for size in SIZES]
        cells += [{**at, "test": "asleep", "placement": "two", "size": 64}]
        cells += [{**at, "test": "rate", "placement": "two", "size": 64, "rate": rate} for rate in (1000, 100000)]
        cells += [{**at, "test": "many", "placement": "two", "size": 64, "senders": n, "receivers": n} for n in (1, 2, 4, 8)]
        cells += [{**at, "test": "idle", "placement": "two", "size": 64}]
        cells += [{**at, "test": test, "placement": "two", "size": 64, "pipes": n} for test in ("set-idle", "set-one", "set-any", "set-wake", "set-busy") for n in (1, 10, 100, 1000, 10000)]
    samples, totals = [], []
    for cell in cells:
        more_samples, more_totals = lines(SET_SPEEDS if "pipes" in cell else SPEEDS, rounds, slower, **cell)
        samples += more_samples
        totals += more_totals
    result = {
        "format": form,
        "bufpipe": {"version": "1.2.3", "commit": "abcdef"},
        "date": "2030-01-02T03:04:05Z",
        "machine": {"id": machine, "cpu": "A <CPU> & more", "cpus": 2, "two_cores": [0, 1], "one_core": 1, "siblings": False, "kernel": "6.1", "architecture": "x86_64", "libc": "glibc 2.36", "governor": "unknown", "clock": "tsc"},
        "parameters": {"ring": 65536, "rounds": rounds, "duration_ns": 1e7, "rate_duration_ns": 1e8, "idle_duration_ns": 1e9},
        "noise": {"others": others, "stolen": 0.0, "load": 0.5, "elapsed_ns": 1e10},
        "complete": True,
        "throttle_refused": False,
        "syscalls_counted": True,
        "transports": [
            {"name": name, "about": f"about {name}", "room": "bytes", "version": "", "spins": name == "ring", "floor": name == "ring"}
            for name in (*SPEEDS, *SET_SPEEDS)
        ],
        "samples": samples,
        "totals": totals,
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file)
    return path


def with_failures(path, name="bufpipe", reason="echo: died of signal 6, <Aborted>"):
    """Makes a transport of a result fail in round trips of 8 bytes, so that it is left out of all others."""
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    places = {}
    for sample in result["samples"]:
        if sample["transport"] == name:
            place = {key: sample[key] for key in (*reading.Cell._fields, "transport") if key in sample}
            places[json.dumps(place)] = place
    result["samples"], result["totals"] = ([line for line in result[key] if line["transport"] != name] for key in ("samples", "totals"))
    first, *result["left_out"] = places.values()
    result["failures"] = [{**first, "round": k, "reason": reason} for k in range(2)]
    result["complete"] = False
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file)
    return path


class WithFiles(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def run_script(self, name, *arguments):
        return subprocess.run([sys.executable, os.path.join(REPORT, name), *arguments], capture_output=True, text=True, check=False)


class Reading(WithFiles):
    def test_ratios_are_taken_within_a_round(self):
        found = reading.Results(made_up(self.path("a")))
        cell = found.cells(test="trip", placement="two", size=64, busy=0, throttle=0)[0]
        speed = found.speed(cell, "bufpipe")
        # Every round was slower than the one before by the same factor, for all: the ratio knows nothing of it.
        self.assertAlmostEqual(20, speed.min)
        self.assertAlmostEqual(20, speed.max)

    def test_files_are_put_together(self):
        free = made_up(self.path("a"), conditions=((0, 0),))
        busy = made_up(self.path("b"), conditions=((2, 0),))
        self.assertEqual([(0, 0, "normal"), (2, 0, "normal")], reading.conditions(reading.Results(free, busy)))

    def test_other_files_are_refused(self):
        for text in ("", "[]", "{}", '{"format": 99}'):
            with open(self.path("x"), "w", encoding="utf-8") as file:
                file.write(text)
            with self.assertRaises(reading.Unreadable):
                reading.Results(self.path("x"))
        with self.assertRaises(reading.Unreadable):
            reading.Results(self.path("missing"))


class Comparing(WithFiles):
    def compare(self, *arguments):
        return self.run_script("compare.py", *arguments)

    def test_the_same_is_not_worse(self):
        done = self.compare(made_up(self.path("a")), made_up(self.path("b")))
        self.assertEqual(0, done.returncode, done.stdout)
        self.assertIn(" 0 worse", done.stdout)

    def test_a_regression_shows(self):
        done = self.compare(made_up(self.path("a")), made_up(self.path("b"), slower=1.5))
        self.assertEqual(1, done.returncode)
        self.assertIn("WORSE  bufpipe, round trip, 64 B, two cores: speed / pipe 20.0", done.stdout)
        self.assertNotIn("socketpair", done.stdout)

    def test_what_is_better_is_no_regression(self):
        done = self.compare(made_up(self.path("a"), slower=1.5), made_up(self.path("b")))
        self.assertEqual(0, done.returncode)
        self.assertIn("better", done.stdout)

    def test_a_difference_within_the_tolerance_is_none(self):
        self.assertEqual(0, self.compare(made_up(self.path("a")), made_up(self.path("b"), slower=1.1)).returncode)

    def test_another_machine_or_too_much_noise_is_not_compared(self):
        kept = made_up(self.path("a"))
        for name, other in (("b", {"machine": "4567"}), ("c", {"others": 0.6})):
            done = self.compare(kept, made_up(self.path(name), **other))
            self.assertEqual(compare.CANNOT_COMPARE, done.returncode)
            self.assertIn("cannot compare", done.stderr)

    def test_a_measurement_that_failed_is_a_regression(self):
        kept = made_up(self.path("a"))
        done = self.compare(kept, with_failures(made_up(self.path("b"))))
        self.assertEqual(1, done.returncode)
        self.assertIn("FAILED bufpipe, round trip, 8 B, two cores: echo: died of signal 6", done.stdout)
        self.assertIn(" 0 worse", done.stdout)
        # Another library's failure is none of ours.
        done = self.compare(kept, with_failures(made_up(self.path("b")), name="socketpair"))
        self.assertEqual(0, done.returncode, done.stdout)

    def test_check_names_a_measurement_that_failed_and_keeps_nothing(self):
        bench = self.path("bench")
        with open(bench, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nfor last; do :; done\ncp {self.path("next")} "$last"\nexit 1\n')
        os.chmod(bench, 0o755)
        with_failures(made_up(self.path("next")))
        done = self.run_script("check.py", bench, self.path("kept"))
        self.assertEqual((1, ""), (done.returncode, done.stderr))
        self.assertIn("FAILED bufpipe, round trip, 8 B, two cores: echo: died of signal 6", done.stdout)
        self.assertFalse(os.path.exists(self.path("kept")))

    def test_check_keeps_the_first_result_and_fails_on_a_worse_one(self):
        bench = self.path("bench")
        with open(bench, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nfor last; do :; done\ncp {self.path("next")} "$last"\n')
        os.chmod(bench, 0o755)
        kept = self.path("kept")
        for slower, status in ((1, 0), (1, 0), (2, 1), (0.5, 0)):
            made_up(self.path("next"), slower=slower)
            self.assertEqual(status, self.run_script("check.py", bench, kept).returncode)
        self.assertTrue(os.path.exists(kept))
        os.remove(kept)
        made_up(self.path("next"), others=0.6)
        self.assertEqual(compare.CANNOT_COMPARE, self.run_script("check.py", bench, kept).returncode)
        self.assertFalse(os.path.exists(kept))


class Matrix(WithFiles):
    def test_each_condition_has_a_table(self):
        path = made_up(self.path("a"), conditions=((0, 0), (2, 0), (0, 50)))
        with open(path, encoding="utf-8") as file:
            result = json.load(file)
        for line in result["samples"] + result["totals"]:
            if line["busy"] == 2:
                line["priority"] = "fifo-lead"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(result, file)
        done = self.run_script("matrix.py", "--json", self.path("matrix.json"), path)
        self.assertEqual("", done.stderr)
        for text in ("Free CPUs", "2 busy programs on each CPU, the lead or the senders SCHED_FIFO", "Throttled to 50 % of a CPU", "20.0 (20.0–20.0)", "40 % (40 %)"):
            self.assertIn(text, done.stdout)
        with open(self.path("matrix.json"), encoding="utf-8") as file:
            rows = json.load(file)["rows"]
        self.assertEqual({"normal", "fifo-lead"}, {row["priority"] for row in rows})
        shares = [row for row in rows if row["test"] == "many" and row["senders"] == 8]
        self.assertTrue(all(row["least_share"] == 0.2 and row["speed"][1] > 1 for row in shares))


@unittest.skipUnless(shutil.which("gnuplot"), "no gnuplot")
class Reporting(WithFiles):
    def report(self, *arguments):
        done = self.run_script("report.py", *arguments, "-o", self.path("report.html"))
        self.assertEqual("", done.stderr)
        with open(self.path("report.html"), encoding="utf-8") as file:
            return file.read()

    def test_the_page_needs_no_other_file(self):
        page = self.report(made_up(self.path("a")))
        sources = re.findall(r'(?:src|href)="([^"]{0,30})', page)
        self.assertGreater(len(sources), 8)
        for source in sources:
            self.assertTrue(source.startswith("data:image/svg+xml;base64,"), source)

    def test_the_page_says_what_was_measured_where(self):
        page = self.report(made_up(self.path("a"), others=0.3))
        for text in ("While nobody sends", "12.1 KiB", "A &lt;CPU&gt; &amp; more", "Linux 6.1", "abcdef", "2030-01-02", "30 %", "busy with other things", "1 busy program on each CPU", "99.9"):
            self.assertIn(text, page)

    def test_the_page_says_what_failed_and_why(self):
        page = self.report(with_failures(made_up(self.path("a"))))
        top, grids = page.split("<h2>Speed</h2>")
        self.assertIn("<td>bufpipe</td><td>round trip, 8 B, two cores</td><td>echo: died of signal 6, &lt;Aborted&gt;</td>", top)
        self.assertIn("left out of the rest of a run: bufpipe.", top)
        self.assertIn("<td>bufpipe</td><td class=failed>failed</td><td class=failed>left out</td>", grids)

    def test_a_result_without_the_pipe_makes_a_report(self):
        page = self.report(with_failures(made_up(self.path("a")), name="pipe", reason="open: Too many open files"))
        self.assertIn("open: Too many open files", page)

    def test_pictures_are_kept(self):
        self.report(made_up(self.path("a")), "--pictures", self.path("pictures"))
        with open(self.path("pictures/overview.svg"), encoding="utf-8") as file:
            self.assertIn("</svg>", file.read())

    def test_a_small_result_makes_a_report_too(self):
        with open(made_up(self.path("a")), encoding="utf-8") as file:
            result = json.load(file)
        for key in ("samples", "totals"):
            result[key] = [line for line in result[key] if line["test"] == "trip" and line["size"] == 64 and not line["busy"]]
        with open(self.path("a"), "w", encoding="utf-8") as file:
            json.dump(result, file)
        self.assertIn("times as fast as a Unix pipe", self.report(self.path("a")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
