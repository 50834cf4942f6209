# SPDX-License-Identifier: MIT
"""Writes the figures of python_bench.py into the pages that show them, between two lines of comment each."""

import pathlib
import platform
import re
import statistics

ROOT = pathlib.Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures of perf/python_bench.py -->", "<!-- end of figures -->"


def number(value):
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def ratio(rates, name, base="multiprocessing"):
    """Median and extremes of the ratios within a round."""
    ratios = [a / b for a, b in zip(rates[name], rates[base])]
    median, low, high = map(number, (statistics.median(ratios), min(ratios), max(ratios)))
    return f"{median} ({low} to {high})"


def share(rates, name, of):
    return f"{statistics.median(a / b for a, b in zip(rates[name], rates[of])):.2f}"


def pipe_rows(results):
    yield "times the rate of `multiprocessing.Pipe`", "generic pipe", "static pipe"
    yield "---", "---", "---"
    for case, rates in results.items():
        if case.startswith("stream"):
            size = case.split()[1]
            yield f"streams of {size} bytes", ratio(rates, "generic"), ratio(rates, "static")
    rates = results["round trip 64 B"]
    yield "round trips of 64 bytes", ratio(rates, "generic"), ratio(rates, "static")
    rates = results["small dict"]
    yield f"a small dict; {share(rates, 'generic', 'pickle alone')} of the rate of pickle without a pipe", ratio(rates, "generic"), ""
    rates = results.get("8 MB array")
    if rates:
        yield f"an 8 MB array of numpy; {share(rates, 'generic', 'memcpy')} of the rate of memcpy", ratio(rates, "generic"), ""


def queue_rows(results):
    yield "what", "times the rate of multiprocessing"
    yield "---", "---"
    for case, candidate, text in (
        ("queue 1 to 1", "Queue", "small integers, one producer and one consumer"),
        ("queue 4 to 4", "Queue", "four producers and four consumers"),
        ("queue round trip", "Queue", "round trip through two queues"),
        ("queue executor", "our context", "empty tasks of `ProcessPoolExecutor`"),
        ("queue pool", "our context", "empty tasks of `Pool`, one by one"),
    ):
        yield text, ratio(results[case], candidate)
    many = ratio(results["queue, 100 at once"], "put_many", "put, get")
    yield "`put_many` and `get_many` of 100 against `put` and `get` of ours", many


def cpu():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def replace(path, heading, rows):
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    text = path.read_text(encoding="utf-8")
    new = re.sub(f"(?<={BEGIN}\n).*?(?={END})", lambda _: f"\n{heading}\n\n{table}\n\n", text, count=1, flags=re.DOTALL)
    path.write_text(new, encoding="utf-8")


def publish(results, others):
    """results: {case: {candidate: [rate of each round]}}; others: how much of the CPUs other programs had, in percent."""
    rounds = len(next(iter(results["stream 16 B"].values())))
    heading = (
        f"Median and, in brackets, the extremes of {rounds} rounds, with CPython {platform.python_version()}, two processes on two\n"
        f"CPUs of a machine with an {cpu()}, of which other programs had {others:.0f} %:"
    )
    replace(ROOT / "python" / "README.md", heading, pipe_rows(results))
    replace(ROOT / "python" / "docs" / "queues.md", heading, queue_rows(results))
