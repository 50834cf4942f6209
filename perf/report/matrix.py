#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A table of the matrix of busy machines, from result files of bufpipe-bench.

    perf/report/matrix.py result.json...              # a table for each kind of machine, as Markdown
    perf/report/matrix.py --json FILE result.json...  # and the same figures in one JSON file
    perf/report/matrix.py --summary result.json...    # a column for each kind of machine, as in docs/figures.md

Against a Unix pipe, or epoll over pipes, in the same round and under the same
condition: how many times as fast, the CPU time for a message, and the least
share of any process in any 200 ms, with the pipe's in brackets.
"""

import argparse
import json
import sys

from results import Results, Unreadable, base, cell_text, conditions, condition_text, digits, is_ours

HEAD = ("situation", "times as fast", "CPU time", "least share", "throttled")


def chosen(cell, names):
    """The one of our transports in a cell that a program would use there."""
    if "set-no-uring" in names:
        return ["set-no-uring"]
    if cell.test == "many" and "bufpipe-shared" in names:
        return ["bufpipe-shared"]
    return [name for name in ("bufpipe", "set", "bufpipe-shared") if name in names][:1] or [name for name in names if is_ours(name)]


def ranged(spread):
    return f"{digits(spread.median)} ({digits(spread.min)}–{digits(spread.max)})" if spread else "–"


def is_alone(cell):
    """Whether each side has one process; then shares say nothing."""
    return cell.senders == cell.receivers == 1


def rows_of(results, condition):
    """For each situation under one condition a dictionary of what was found."""
    for cell in results.cells(**condition._asdict()):
        if cell.test.endswith("idle"):
            continue
        for name in chosen(cell, results.names(cell)):
            speed, cost = results.speed(cell, name), results.cost(cell, name)
            if not speed:
                continue
            yield {
                **{key: value for key, value in cell._asdict().items() if value is not None},
                "transport": name,
                "situation": cell_text(cell),
                "speed": speed,
                "cpu": cost,
                "least_share": None if is_alone(cell) else results.least_share(cell, name),
                "least_share_of_pipe": None if is_alone(cell) else results.least_share(cell, base(cell)),
                "throttled": results.value(cell, name, "throttled"),
                "throttled_of_pipe": results.value(cell, base(cell), "throttled"),
            }


def with_pipe(ours, pipes, scale=1.0, unit=""):
    return "" if ours is None else f"{scale * ours:.{0 if unit else 2}f}{unit} ({scale * pipes:.{0 if unit else 2}f}{unit})"


def columns(row):
    throttled = row["throttled"] and with_pipe(row["throttled"].median, row["throttled_of_pipe"].median, 100, " %")
    return [row["situation"], ranged(row["speed"]), ranged(row["cpu"]), with_pipe(row["least_share"], row["least_share_of_pipe"]), throttled or ""]


def table(rows):
    """A table without the columns in which nothing stands."""
    lines = [list(HEAD), *(columns(row) for row in rows)]
    kept = [i for i in range(len(HEAD)) if any(line[i] for line in lines[1:])]
    lines = [[line[i] for i in kept] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(kept))]
    text = ["| " + " | ".join(word.ljust(width) for word, width in zip(line, widths)) + " |" for line in lines]
    return "\n".join([text[0], "| " + " | ".join("-" * width for width in widths) + " |", *text[1:]])


def summary(found, named, figure, title):
    """A table of one figure: a line for each situation, a column for each condition."""
    cells = {}
    for row in found:
        condition = (row["busy"], row["throttle"], row["priority"])
        text = figure(row)
        if text:
            cells.setdefault(row["situation"].replace(", 64 B", ""), {})[condition] = text
    shown = [condition for condition in named if any(condition in line for line in cells.values())]
    lines = ["| " + " | ".join([title, *(condition_text(*condition) for condition in shown)]) + " |", "| --- " * (len(shown) + 1) + "|"]
    lines += ["| " + " | ".join([name, *(line.get(condition, "–") for condition in shown)]) + " |" for name, line in cells.items()]
    return "\n".join(lines) if cells else ""


def share(row):
    return with_pipe(row["least_share"], row["least_share_of_pipe"])


SUMMARY = (
    (lambda row: ranged(row["speed"]), "times as fast"),
    (lambda row: ranged(row["cpu"]), "CPU time for a message"),
    (share, "least share of a process (the pipe's)"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="RESULT.json")
    parser.add_argument("--json", metavar="FILE", help="where to write the figures")
    parser.add_argument("--summary", action="store_true", help="a column for each kind of machine")
    options = parser.parse_args()
    try:
        results = Results(*options.results)
    except Unreadable as error:
        sys.exit(f"matrix.py: {error}")
    found = []
    for condition in conditions(results):
        rows = list(rows_of(results, condition))
        if rows and not options.summary:
            title = condition_text(*condition)
            print(f"\n{title[0].upper()}{title[1:]}\n\n{table(rows)}")
        found += rows
    if options.summary:
        print("\n\n".join(filter(None, (summary(found, conditions(results), figure, title) for figure, title in SUMMARY))))
    noise = max(run["noise"]["others"] + run["noise"]["stolen"] for run in results.runs)
    print(f"\nMedians, and the smallest and the largest of the rounds. Other programs had at most {100 * noise:.0f} % of the CPUs.")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"runs": results.runs, "rows": found}, file, indent=1)


if __name__ == "__main__":
    main()
