# SPDX-License-Identifier: MIT
"""Result files of bufpipe-bench: reading them, and what is computed from them.

A cell is one situation that was measured: a test with its placement, sizes and
conditions.  In each round of a cell all transports took turns, so ratios are
taken within a round, and a Spread over the rounds says how sure they are.
"""

import json
import statistics
from collections import namedtuple

FORMAT = 1
PERCENTILES = ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")

Cell = namedtuple("Cell", "test placement busy throttle priority size senders receivers pipes rate")
Condition = namedtuple("Condition", "busy throttle priority")
FREE = Condition(0, 0, "normal")._asdict()
Spread = namedtuple("Spread", "min median max")


class Unreadable(Exception):
    """The file is not a result, or has another format."""


def spread(values):
    """The smallest, median and largest; None of nothing."""
    values = list(values)
    return Spread(min(values), statistics.median(values), max(values)) if values else None


class Results:
    """What one or more files hold; where two have the same cell, the later one's counts."""

    def __init__(self, *paths):
        self.runs = []  # the heads of the files
        self.samples = {}  # by cell and transport, then by round
        self.totals = {}  # by cell and transport
        self.transports = {}  # by name, in the order of the program
        self.failures = {}  # the reasons, by cell and transport
        self.left_out = set()  # cells and transports that lack rounds, because the transport had failed before
        for path in paths:
            self._add(path)

    def _add(self, path):
        try:
            with open(path, encoding="utf-8") as file:
                run = json.load(file)
        except (OSError, ValueError) as error:
            raise Unreadable(f"{path}: {error}") from error
        if not isinstance(run, dict) or run.get("format") != FORMAT:
            raise Unreadable(f"{path}: not a result of format {FORMAT}")
        for failure in run.pop("failures", []):
            self.failures.setdefault(self._key(failure), []).append(failure["reason"])
        self.left_out.update(self._key(line) for line in run.pop("left_out", []))
        fresh = {}
        for sample in run.pop("samples"):
            fresh.setdefault(self._key(sample), {})[sample["round"]] = sample
        self.samples.update(fresh)
        self.totals.update({self._key(total): total for total in run.pop("totals")})
        self.transports.update({transport["name"]: transport for transport in run["transports"]})
        self.runs.append(run)

    @staticmethod
    def _key(line):
        return Cell(*(line.get(field, "normal" if field == "priority" else None) for field in Cell._fields)), line["transport"]

    def cells(self, **wanted):
        """The cells in which all of these fields have these values, in the order of the file."""
        seen = dict.fromkeys(cell for cell, _ in self.samples)
        return [cell for cell in seen if all(getattr(cell, name) == value for name, value in wanted.items())]

    def names(self, cell):
        """The transports that took part in a cell."""
        return [name for name in self.transports if (cell, name) in self.samples]

    def lacks(self, cell, name):
        """Whether a transport failed in a cell, or was left out there because it had failed before."""
        return (cell, name) in self.failures or (cell, name) in self.left_out

    def value(self, cell, name, key):
        rounds = self.samples.get((cell, name), {})
        return spread(sample[key] for sample in rounds.values() if key in sample)

    def ratio(self, cell, over, under, key):
        """One transport's figure divided by another's, within the rounds that both took part in."""
        a, b = self.samples.get((cell, over), {}), self.samples.get((cell, under), {})
        return spread(a[k][key] / b[k][key] for k in a if k in b and key in a[k] and b[k].get(key, 0) > 0)

    def speed(self, cell, name):
        """How many times as fast as the Unix pipe, or as epoll over pipes."""
        return self.ratio(cell, base(cell), name, "ns")

    def cost(self, cell, name):
        """Its CPU time for a message, divided by that of the Unix pipe, or of epoll over pipes."""
        return self.ratio(cell, name, base(cell), "cpu_ns")

    def least_share(self, cell, name):
        """The least share of a process on its side, in any 200 ms of any round; None if each side has one process."""
        rounds = self.samples.get((cell, name), {}).values()
        shares = [min(sample["send_share"][0], sample["recv_share"][0]) for sample in rounds if "send_share" in sample]
        return min(shares) if shares else None


def failure_texts(results, chosen=lambda name: True):
    """A line for each failure of the transports that are chosen."""
    return [f"{name}, {place_text(cell)}: {reason}" for (cell, name), reasons in results.failures.items() if chosen(name) for reason in reasons]


def is_ours(name):
    return name.startswith(("bufpipe", "set"))


def base(cell):
    return "epoll" if cell.pipes else "pipe"


def condition_of(cell):
    return Condition(cell.busy, cell.throttle, cell.priority)


def conditions(results):
    return list(dict.fromkeys(condition_of(cell) for cell in results.cells()))


def size_text(size):
    for unit, scale in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale and size % scale == 0:
            return f"{size // scale} {unit}"
    return f"{size} B"


def digits(value):
    """The number with three digits, and without an exponent."""
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{decimals}f}"


def time_text(ns):
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= scale * 0.9995:
            return f"{digits(ns / scale)} {unit}"
    return f"{digits(ns)} ns"


def spread_text(values):
    if values is None:
        return ""
    return f"{digits(values.median)} ({digits(values.min)}–{digits(values.max)})"


PRIORITIES = {
    "fifo-lead": "the lead or the senders SCHED_FIFO",
    "fifo-echo": "the echo or the receivers SCHED_FIFO",
    "fifo-both": "both sides SCHED_FIFO",
    "nice-lead": "the lead or the senders at nice 19",
    "nice-echo": "the echo or the receivers at nice 19",
}


def condition_text(busy, throttle, priority="normal"):
    parts = []
    if busy:
        parts.append(f"{busy} busy program{'s' if busy > 1 else ''} on each CPU")
    if throttle:
        parts.append(f"throttled to {throttle} % of a CPU")
    if priority != "normal":
        parts.append(PRIORITIES.get(priority, priority))
    return ", ".join(parts) or "free CPUs"


def cell_text(cell):
    """What was measured, without the condition."""
    what = {
        "trip": "round trip",
        "stream": "stream",
        "asleep": "to a sleeper",
        "idle": "idle receiver",
        "rate": f"{cell.rate or 0:,} messages/s",
        "many": f"{cell.senders} to {cell.receivers}",
        "pairs": f"{cell.senders} pairs",
        "set-one": f"{cell.pipes or 0:,} pipes, always the same one",
        "set-any": f"{cell.pipes or 0:,} pipes, each time another one",
        "set-wake": f"{cell.pipes or 0:,} pipes, another one, asleep",
        "set-busy": f"{cell.pipes or 0:,} pipes, all busy",
        "set-idle": f"{cell.pipes or 0:,} pipes, none used",
    }[cell.test]
    return f"{what}, {size_text(cell.size)}, {'two cores' if cell.placement == 'two' else 'one core'}"


def place_text(cell):
    """What was measured, with the condition if other programs or a limit were there too."""
    condition = condition_of(cell)
    return cell_text(cell) + (f", {condition_text(*condition)}" if condition != Condition(**FREE) else "")
