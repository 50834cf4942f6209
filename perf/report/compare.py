#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares two result files of bufpipe-bench, so that a regression shows.

    perf/report/compare.py kept.json new.json

What is compared are the ratios to the Unix pipe (or to epoll over pipes) of the
same round, because absolute times of different moments say nothing on a machine
that others use too.  A figure is worse when its best round is worse than the
worst round that was kept, by more than the tolerance.  A measurement of ours
that failed is worse than any figure.

Exit status: 0 nothing is worse; 1 something is; 2 a file cannot be read;
77 the two cannot be compared: another machine or kernel, or too much noise.
"""

import argparse
import sys

from results import Results, Unreadable, failure_texts, is_ours, place_text, spread_text

CANNOT_COMPARE = 77
# If other programs had a larger part of the CPUs than this, the ranges show their work rather than ours.
NOISE_MAX = 0.2
TOLERANCE = 0.15


def too_noisy(results):
    """Why a result is too noisy to be compared or kept; None if it is not."""
    for run in results.runs:
        noise = run["noise"]["others"] + run["noise"]["stolen"]
        if noise > NOISE_MAX:
            return f"other programs had {100 * noise:.0f} % of the CPUs in the run of {run['date']}"
    return None


def obstacle(kept, new):
    """Why the two cannot be compared; None if they can."""
    for key, what in (("id", "machine"), ("kernel", "kernel")):
        if {run["machine"][key] for run in kept.runs} != {run["machine"][key] for run in new.runs}:
            return f"the results are of another {what}"
    return too_noisy(kept) or too_noisy(new)


def verdict(kept, new, more_is_better, tolerance):
    """-1 for worse, 1 for better, 0 for neither."""
    falls = new.max * (1 + tolerance) < kept.min
    rises = new.min > kept.max * (1 + tolerance)
    if not falls and not rises:
        return 0
    return 1 if rises == more_is_better else -1


def compare(kept, new, tolerance=TOLERANCE):
    """For each of our figures in both: (cell, transport, what, kept spread, new spread, verdict)."""
    found = []
    for cell in new.cells():
        for name in filter(is_ours, new.names(cell)):
            for what, figure, more_is_better in (("speed", "speed", True), ("CPU time", "cost", False)):
                before, after = getattr(kept, figure)(cell, name), getattr(new, figure)(cell, name)
                # One round has no range; idle cells are measured once.
                if before and after and not cell.test.endswith("idle"):
                    found.append((cell, name, what, before, after, verdict(before, after, more_is_better, tolerance)))
    return found


def line(entry):
    cell, name, what, before, after, which = entry
    mark = {-1: "WORSE ", 0: "same  ", 1: "better"}[which]
    return f"{mark} {name}, {place_text(cell)}: {what} / pipe {spread_text(before)} -> {spread_text(after)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept")
    parser.add_argument("new")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="default: %(default)s")
    parser.add_argument("--all", action="store_true", help="print also what is the same")
    parser.add_argument("--anyway", action="store_true", help="also results of different machines, or of noisy runs")
    options = parser.parse_args()
    try:
        kept, new = Results(options.kept), Results(options.new)
    except Unreadable as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    reason = obstacle(kept, new)
    if reason and not options.anyway:
        print(f"compare.py: cannot compare: {reason}", file=sys.stderr)
        return CANNOT_COMPARE
    entries = compare(kept, new, options.tolerance)
    for entry in entries:
        if entry[-1] or options.all:
            print(line(entry))
    failed = failure_texts(new, is_ours)
    for text in failed:
        print(f"FAILED {text}")
    worse, better = (sum(entry[-1] == which for entry in entries) for which in (-1, 1))
    print(f"{len(entries)} figures compared: {worse} worse, {better} better")
    return 1 if worse or failed else 0


if __name__ == "__main__":
    sys.exit(main())
