#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes a report, one HTML file that needs no other, from result files of bufpipe-bench.

    bufpipe-bench --all --json result.json
    perf/report/report.py result.json -o report.html

Several files make one report: those of other conditions (--busy, --throttle)
beside that of free CPUs.  The pictures need gnuplot.
"""

import argparse
import base64
import html
import os
import sys
import tempfile

import plots
from results import (
    PERCENTILES,
    FREE,
    Results,
    Unreadable,
    cell_text,
    condition_text,
    conditions,
    digits,
    is_ours,
    place_text,
    size_text,
    spread_text,
    time_text,
)

STYLE = """
body { font: 15px/1.45 sans-serif; color: #1a1a1a; background: #fff; max-width: 1080px; margin: 1.5em auto; padding: 0 1em }
h1 { font-size: 1.6em } h2 { font-size: 1.25em; margin-top: 2em; border-bottom: 1px solid #bbb } h3 { font-size: 1.05em }
table { border-collapse: collapse; font-size: 13px; margin: .7em 0 } td, th { padding: .25em .6em; text-align: right; border-bottom: 1px solid #ddd }
th { background: #f3f3f3; font-weight: 600 } td:first-child, th:first-child { text-align: left } td small { color: #555 }
td.failed { color: #8a2c0d; font-style: italic } tr.ours td:first-child { font-weight: 600 } td.best { font-weight: 700; background: #e8eef6 } td.worse { text-decoration: underline; background: #f6e9e4 }
img { max-width: 100%; display: block; margin: .8em 0 } p.note { color: #444; font-size: 14px } .head td, .head th { text-align: left }
@media print { body { max-width: none } h2, table, img { break-inside: avoid } }
"""


def escaped(text):
    return html.escape(str(text))


def row(cells, tag="td", kind=""):
    """Cells are texts, or pairs of a text of HTML and a class."""
    out = []
    for cell in cells:
        text, name = cell if isinstance(cell, tuple) else (escaped(cell), "")
        out.append(f'<{tag}{f" class={name}" if name else ""}>{text}</{tag}>')
    return f'<tr{f" class={kind}" if kind else ""}>{"".join(out)}</tr>\n'


def table(head, rows, kind=""):
    body = "".join(rows)
    return f'<table{f" class={kind}" if kind else ""}>\n{row(head, "th") if head else ""}{body}</table>\n' if body else ""


def why_empty(results, cell, name):
    """For a transport without a figure, whether it failed; the reason stands in the table on top."""
    if (cell, name) in results.failures:
        return "failed", "failed"
    return ("left out", "failed") if results.lacks(cell, name) else ""


def with_range(values, best=False, worse=False):
    if values is None:
        return ""
    text = f"{digits(values.median)} <small>({digits(values.min)}–{digits(values.max)})</small>"
    return text, "best" if best else "worse" if worse else ""


class Report:
    def __init__(self, results, directory, png):
        self.results, self.directory, self.png = results, directory, png
        self.pictures = 0
        self.out = []

    def add(self, *parts):
        self.out += [part for part in parts if part]

    def picture(self, picture, name=None):
        """The picture itself is in the page; an image rather than inline SVG, whose names would clash."""
        if not picture:
            return ""
        self.pictures += 1
        path = picture.draw(self.directory, name or f"picture-{self.pictures:02}", self.png)
        with open(path, "rb") as file:
            data = base64.b64encode(file.read()).decode("ascii")
        return f'<img alt="{escaped(picture.title)}" src="data:image/svg+xml;base64,{data}">\n'

    def head(self):
        """What was measured, where and when: a column for each run."""
        runs = self.results.runs
        columns = []
        for run in runs:
            machine, parameters, noise = run["machine"], run["parameters"], run["noise"]
            threads = ", threads of one core" if machine["siblings"] else ""
            columns.append(
                {
                    "bufpipe": f'{run["bufpipe"]["version"]}, commit {run["bufpipe"]["commit"]}',
                    "date": run["date"],
                    "machine": f'{machine["cpu"]}, {machine["cpus"]} CPUs, {machine["architecture"]}',
                    "CPUs used": f'{machine["two_cores"][0]} and {machine["two_cores"][1]}{threads}; one core: {machine["one_core"]}',
                    "system": f'Linux {machine["kernel"]}, {machine["libc"]}; governor {machine["governor"]}, clock {machine["clock"]}',
                    "measured": f'rounds: {parameters["rounds"]}, {time_text(parameters["duration_ns"])} for a measurement or as long as it needs; took {time_text(noise["elapsed_ns"])}',
                    "bytes in flight": size_text(parameters["ring"]),
                    "noise": f'other programs had {100 * noise["others"]:.0f} % of these CPUs, the host took {100 * noise["stolen"]:.0f} %; load {noise["load"]:.1f} at the start',
                }
            )
        rows = []
        for key in columns[0]:
            texts = [column[key] for column in columns]
            rows.append(row([key, *(texts[:1] if len(set(texts)) == 1 else texts)]))
        self.add(table([], rows, "head"))
        if any(run["noise"]["others"] + run["noise"]["stolen"] > 0.05 for run in runs):
            self.add("<p class=note><b>The machine was busy with other things.</b> Look at the ranges before the medians.</p>\n")
        if not all(run["complete"] for run in runs):
            self.failures()
        self.add(
            "<p class=note>All transports took turns within each round, some tens of milliseconds apart, and ratios are taken within a "
            "round. Tables give the median of the rounds and, in brackets, the smallest and the largest: a difference that is smaller than "
            "the range is none. More is in <code>perf/README.md</code>.</p>\n"
        )

    def failures(self):
        results = self.results
        self.add("<p class=note><b>This run is not complete</b>, because a measurement failed.</p>\n")
        rows = []
        for (cell, name), reasons in results.failures.items():
            for reason in reasons:
                rows.append(row([name, place_text(cell), reason]))
        self.add(table(["transport", "failed in", "because"], rows, "head"))
        names = [name for name in results.transports if any(name == other for _, other in results.left_out)]
        if names:
            self.add(f"<p class=note>After two failures a transport is left out of the rest of a run: {escaped(', '.join(names))}.</p>\n")

    def grid(self, test, placement):
        """How many times as fast as a Unix pipe: a line for each transport, a column for each size."""
        results = self.results
        cells = sorted(results.cells(test=test, placement=placement, **FREE), key=lambda cell: cell.size)
        if not cells:
            return
        names = [name for name in results.transports if any(results.speed(cell, name) or results.lacks(cell, name) for cell in cells)]
        floors = {name for name in names if results.transports[name]["floor"]}
        best = {cell: max((results.speed(cell, name).median for name in names if name not in floors and results.speed(cell, name)), default=0) for cell in cells}
        rows = []
        for name in names:
            texts = []
            for cell in cells:
                speed = results.speed(cell, name)
                best_here = speed is not None and name not in floors and speed.median == best[cell]
                texts.append(with_range(speed, best=best_here) or why_empty(results, cell, name))
            rows.append(row([name, *texts], kind="ours" if is_ours(name) else ""))
        title = ("Round trips" if test == "trip" else "Streams") + (", two cores" if placement == "two" else ", one core")
        self.add(f"<h3>{title}: times as fast as a Unix pipe</h3>\n", table(["transport", *(size_text(cell.size) for cell in cells)], rows))

    def exchanges(self):
        if not any(cell.test in ("trip", "stream") for cell in self.results.cells(**FREE)):
            return
        self.add("<h2>Speed</h2>\n", self.picture(plots.overview(self.results), "overview"))
        for placement in ("two", "one"):
            for test in ("trip", "stream"):
                self.grid(test, placement)
                self.add(self.picture(plots.over_sizes(self.results, test, placement)))

    def latency(self, cell, title):
        results = self.results
        rows = []
        for name in results.names(cell):
            total = results.totals.get((cell, name), {})
            if "count" not in total:
                continue
            costs = [time_text(results.value(cell, name, key).median) for key in ("recv_cpu_ns", "cpu_ns")]
            calls = digits(total["syscalls"]) if "syscalls" in total else "–"
            rows.append(
                row(
                    [name, *(time_text(total[key]) for key in PERCENTILES), *costs, digits(results.value(cell, name, "switches").median), calls,
                     spread_text(results.cost(cell, name))],
                    kind="ours" if is_ours(name) else "",
                )
            )
        head = ["transport", "p50", "p90", "p99", "p99.9", "largest", "receiver's CPU", "CPU", "switches", "system calls", "CPU / pipe"]
        self.add(f"<h3>{escaped(title)}</h3>\n", self.picture(plots.nines(results, cell, title)), table(head, rows))

    def latencies(self):
        results = self.results
        trips = [cell for cell in results.cells(test="trip", **FREE) if cell.size == 64]
        cells = trips + results.cells(test="asleep", **FREE) + results.cells(test="rate", **FREE)
        if not cells:
            return
        self.add(
            "<h2>Latency, and what it costs</h2>\n<p class=note>Every message counts. A message of a paced sender counts from the moment when it "
            "was due. CPU time, context switches and system calls are those of both sides for a message.</p>\n"
        )
        for cell in cells:
            title = cell_text(cell)
            self.latency(cell, title[0].upper() + title[1:])

    def costs(self):
        results = self.results
        cells = [cell for cell in results.cells(placement="two", **FREE, size=64) if cell.test in ("trip", "stream", "rate")]
        if cells:
            labels = [cell_text(cell).split(",")[0] if cell.test != "rate" else f"{cell.rate:,} messages/s" for cell in cells]
            self.add("<h2>CPU time</h2>\n", self.picture(plots.cpu_cost(results, cells[:5], labels)))

    def scaling(self):
        drawn = []
        for placement in ("two", "one"):
            drawn += [self.picture(plots.many_processes(self.results, placement)), self.picture(plots.many_pipes(self.results, placement))]
        if any(drawn):
            self.add("<h2>Many processes, many pipes</h2>\n", *drawn)

    def condition(self, condition):
        """Ours against the Unix pipe, or epoll, in every situation that was measured under one condition."""
        results = self.results
        rows = []
        for cell in results.cells(**condition._asdict()):
            if cell.test in ("idle", "set-idle"):
                continue
            for name in results.names(cell):
                speed, cost = results.speed(cell, name), results.cost(cell, name)
                if not is_ours(name) or not speed:
                    continue
                share, throttled = results.least_share(cell, name), results.value(cell, name, "throttled")
                rows.append(
                    row(
                        [cell_text(cell), name, with_range(speed, worse=speed.max < 1), with_range(cost, worse=cost is not None and cost.min > 1),
                         "" if share is None or cell.senders == cell.receivers == 1 else (digits(share), "worse" if share < 0.3 else ""),
                         "" if throttled is None else f"{100 * throttled.median:.0f} %"]
                    )
                )
        head = ["situation", "transport", "speed / pipe", "CPU / pipe", "least share", "throttled"]
        title = condition_text(*condition)
        self.add(f"<h3>{escaped(title[0].upper() + title[1:])}</h3>\n", table(head, rows))

    def situations(self):
        self.add(
            "<h2>Every situation</h2>\n<p class=note>Against a Unix pipe, or epoll over pipes, in the same round and under the same condition. Underlined: "
            "slower, or more CPU time, in every round; or a process that got less than 0.3 of an equal share in some 200 ms.</p>\n"
        )
        for condition in conditions(self.results):
            self.condition(condition)
        if any(run.get("priority_refused") for run in self.results.runs):
            self.add("<p class=note>Nothing could be SCHED_FIFO: that is not allowed there.</p>\n")
        if any(run["throttle_refused"] for run in self.results.runs):
            self.add("<p class=note>Nothing could be throttled: no control group with cpu.max may be made there.</p>\n")

    def idle(self):
        """What a receiver costs while nobody sends, and what a pipe in a set takes."""
        results = self.results
        rows = []
        for cell in results.cells(test="idle", **FREE) + results.cells(test="set-idle", **FREE):
            for name in results.names(cell):
                value = {key: results.value(cell, name, key) for key in ("ns", "recv_cpu_ns", "recv_switches", "setup_ns", "memory")}
                of_pipe = [time_text(value["setup_ns"].median), f'{value["memory"].median / 1024:.1f} KiB'] if cell.pipes else ["", ""]
                idle = [time_text(value["ns"].median), time_text(value["recv_cpu_ns"].median), digits(value["recv_switches"].median)]
                rows.append(row([f"{cell.pipes:,} pipes" if cell.pipes else "one pipe", name, *idle, *of_pipe], kind="ours" if is_ours(name) else ""))
        head = ["receiver of", "transport", "watched for", "its CPU time", "its switches", "to set up a pipe", "memory of a pipe"]
        found = table(head, rows)
        if found:
            self.add("<h2>While nobody sends</h2>\n", found)

    def appendix(self):
        rows = [
            row([t["name"], t["about"], t["version"] or "–", t["room"]], kind="ours" if is_ours(t["name"]) else "")
            for t in self.results.transports.values()
        ]
        self.add("<h2>What was compared</h2>\n", table(["transport", "what it is", "version", "bytes in flight are bounded by"], rows, "head"))

    def page(self):
        self.head()
        self.exchanges()
        self.latencies()
        self.costs()
        self.scaling()
        self.situations()
        self.idle()
        self.appendix()
        body = "".join(self.out)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
            f"<title>bufpipe measured</title>\n<style>{STYLE}</style>\n<h1>bufpipe measured</h1>\n{body}</html>\n"
        )


def main():
    parser = argparse.ArgumentParser(description="Makes a report from result files of bufpipe-bench.")
    parser.add_argument("results", nargs="+", metavar="RESULT.json")
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help="the report; default: %(default)s")
    parser.add_argument("--pictures", metavar="DIRECTORY", help="keep the pictures there too, as SVG")
    parser.add_argument("--png", action="store_true", help="and as PNG")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as directory:
            if options.pictures:
                os.makedirs(options.pictures, exist_ok=True)
            page = Report(Results(*options.results), options.pictures or directory, options.png).page()
        with open(options.output, "w", encoding="utf-8") as file:
            file.write(page)
    except (Unreadable, OSError, RuntimeError) as error:
        sys.exit(f"report.py: {error}")


if __name__ == "__main__":
    main()
