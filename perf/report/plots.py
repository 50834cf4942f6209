# SPDX-License-Identifier: MIT
"""The pictures of a report, drawn by gnuplot.

Every transport has one colour, one dash and one symbol in all pictures, and the
colours differ in brightness, so that a picture can be read in grey and in print.
"""

import os
import subprocess

from results import FREE, size_text

# colour, dash, symbol, width: bufpipe dark, thick and filled; others lighter and open; floors grey and dotted.
STYLES = {
    "bufpipe": ("#08306b", "1", 7, 3),
    "bufpipe-static": ("#2171b5", "2", 5, 3),
    "bufpipe-zero": ("#4292c6", "4", 9, 3),
    "bufpipe-shared": ("#41ab5d", "5", 13, 2.5),
    "bufpipe-nospin": ("#74a9cf", "3", 11, 2.5),
    "set": ("#08306b", "1", 7, 3),
    "set-no-uring": ("#2171b5", "2", 5, 3),
    "pipe": ("#000000", "1", 1, 2),
    "epoll": ("#000000", "1", 1, 2),
    "socketpair": ("#8c510a", "2", 4, 1.5),
    "unix-stream": ("#bf812d", "4", 12, 1.5),
    "tcp": ("#d8a24a", "5", 8, 1.5),
    "eventfd": ("#762a83", "1", 6, 1.5),
    "mq": ("#9970ab", "2", 10, 1.5),
    "boost": ("#4d4d4d", "4", 3, 1.5),
    "libqb": ("#1b7837", "5", 2, 1.5),
    "iceoryx": ("#b2182b", "1", 14, 1.5),
    "iceoryx-zero": ("#ef6548", "3", 14, 1.5),
    "zeromq": ("#d6604d", "2", 15, 1.5),
    "nng": ("#f4a582", "4", 12, 1.5),
    "ck-ring": ("#6a6a6a", "3", 2, 2),
    "ring": ("#7a7a7a", "3", 8, 2),
    "line": ("#8a8a8a", "3", 10, 2),
}
IN_OVERVIEW = ("bufpipe", "bufpipe-static", "bufpipe-zero", "iceoryx", "boost", "libqb", "zeromq", "socketpair", "tcp")
OTHER = ("#606060", "3", 3, 1.5)

HEAD = """
set encoding utf8
set border 3 lc rgb "#404040"
set tics nomirror textcolor rgb "#202020"
set grid back lc rgb "#c8c8c8" lw 1 dt 1
set key outside right top vertical maxcols 1 Left reverse samplen 3 spacing 0.9
set title font ",15"
"""


class Picture:
    """A gnuplot script with its data, one block for each line."""

    def __init__(self, title, width=940, height=520):
        self.title, self.width, self.height = title, width, height
        self.blocks = 0
        self.script = [HEAD, f'set title "{title}"']

    def add(self, *lines):
        self.script += lines

    def block(self, rows):
        """A block of data; its name is returned."""
        self.blocks += 1
        name = f"$block{self.blocks}"
        self.script += [f"{name} << END", *(" ".join(map(str, row)) for row in rows), "END"]
        return name

    def draw(self, directory, name, png=False):
        """Writes the picture, as SVG and if wanted as PNG, and returns the path of the SVG."""
        path = os.path.join(directory, f"{name}.svg")
        terminals = [(f'svg size {self.width},{self.height} dynamic enhanced font "sans-serif,13" background rgb "white"', path)]
        if png:
            terminals.append((f'pngcairo size {self.width},{self.height} enhanced font "sans-serif,10" background rgb "white"', path[:-3] + "png"))
        for terminal, file in terminals:
            script = "\n".join([f"set terminal {terminal}", f'set output "{file}"', *self.script, ""])
            done = subprocess.run(["gnuplot", "-"], input=script, text=True, capture_output=True, check=False)
            if done.returncode or done.stderr.strip():
                raise RuntimeError(f"gnuplot, {name}: {done.stderr.strip()}")
        return path


def style(name, points=True):
    colour, dash, symbol, width = STYLES.get(name, OTHER)
    kind = f"with linespoints pt {symbol} ps 0.8" if points else "with lines"
    return f'{kind} lc rgb "{colour}" dt {dash} lw {width}'


def quoted(text):
    """For gnuplot's enhanced mode."""
    return '"' + text.replace("_", r"\\_") + '"'


def curves(picture, data, points=True):
    """A line for each name in data, which holds rows of x and y."""
    lines = [f"{picture.block(rows)} using 1:2 {style(name, points)} title {quoted(name)}" for name, rows in data.items() if rows]
    if lines:
        picture.add("plot " + ", \\\n ".join(lines))
    return bool(lines)


def log_axis(axis, label):
    return [f"set logscale {axis} 10", f'set {axis}label "{label}"', f'set format {axis} "%g"', f"set m{axis}tics 10"]


def time_axis(label):
    """For times in nanoseconds, with a unit at each label."""
    units = (("ns", 1), ("µs", 1e3), ("ms", 1e6), ("s", 1e9))
    # Two for each decade, since gnuplot leaves out one at the very beginning of the axis.
    ticks = ", ".join(f'"{n} {unit}" {n * scale:.0f}' for unit, scale in units for n in (1, 3, 10, 30, 100, 300))
    return ["set logscale y 10", f'set ylabel "{label}"', f"set ytics ({ticks})"]


def size_axis(sizes):
    # No more labels than have room.
    step = max(1, len(sizes) // 8)
    ticks = ", ".join(f'"{size_text(size)}" {size}' for size in sizes[::step])
    return ["set logscale x 2", 'set xlabel "size of a message"', f"set xtics ({ticks})"]


def sizes_of(cells):
    return sorted({cell.size for cell in cells})


def by_size(results, cells, number):
    """For each transport its rows of size and number(cell, name), where there is one."""
    data = {name: [] for name in results.transports}
    for cell in sorted(cells, key=lambda cell: cell.size):
        for name in results.names(cell):
            y = number(cell, name)
            if y:
                data[name].append((cell.size, y))
    return data


def over_sizes(results, test, placement):
    """Round trips or streams, in absolute figures; None where there is nothing to draw."""
    cells = results.cells(test=test, placement=placement, **FREE)
    where = "two cores" if placement == "two" else "one core"
    if len(cells) < 2:
        return None
    if test == "trip":
        picture = Picture(f"Round trips, {where}: time (less is better)")
        picture.add(*time_axis("time of a round trip"))
        data = by_size(results, cells, lambda cell, name: results.value(cell, name, "ns").median)
    else:
        picture = Picture(f"Streams, {where}: throughput (more is better)")
        picture.add(*log_axis("y", "throughput, GB/s"))
        data = by_size(results, cells, lambda cell, name: cell.size / results.value(cell, name, "ns").median)
    picture.add(*size_axis(sizes_of(cells)), "set key right")
    return picture if curves(picture, data) else None


def ratio_panel(picture, results, test, chosen, title):
    cells = results.cells(test=test, placement="two", **FREE)
    picture.add(*size_axis(sizes_of(cells)), f'set title "{title}"', *log_axis("y", "times as fast as a Unix pipe"))
    lines = ["1 with lines lc rgb '#000000' lw 2 title 'Unix pipe'"]
    for name in chosen:
        rows = [
            (cell.size, *(results.speed(cell, name)[i] for i in (1, 0, 2)))
            for cell in sorted(cells, key=lambda cell: cell.size)
            if results.speed(cell, name)
        ]
        if rows:
            block = picture.block(rows)
            colour, _, _, width = STYLES.get(name, OTHER)
            lines.append(f'{block} using 1:2:3:4 with yerrorbars pt 0 lw 1 lc rgb "{colour}" notitle')
            lines.append(f"{block} using 1:2 {style(name)} title {quoted(name)}")
    picture.add("plot " + ", \\\n ".join(lines))


def overview(results):
    """How many times as fast as a Unix pipe, for each size."""
    cells = results.cells(test="trip", placement="two", **FREE)
    chosen = [name for name in IN_OVERVIEW if name in results.transports]
    # Without the pipe, which may have failed, there are no ratios.
    if not any(results.speed(cell, name) for cell in cells for name in chosen):
        return None
    if len(cells) < 2 or len(results.cells(test="stream", placement="two", **FREE)) < 2:
        return None
    picture = Picture("How many times as fast as a Unix pipe (bars: smallest and largest of the rounds)", 1000, 560)
    picture.add(f'set multiplot layout 1,2 title "{picture.title}" font ",15" margins 0.07,0.83,0.12,0.83 spacing 0.09', "unset key")
    ratio_panel(picture, results, "trip", chosen, "Round trips between two cores")
    picture.add("set key at screen 0.845,0.83 left top vertical Left reverse samplen 2.5", 'unset ylabel')
    ratio_panel(picture, results, "stream", chosen, "Streams between two cores")
    picture.add("unset multiplot")
    return picture


def nines(results, cell, title):
    """The distribution of a cell: what part of the messages took at most so long."""
    data = {}
    for name in results.names(cell):
        total = results.totals.get((cell, name), {})
        seen, rows = 0, []
        for end, count in total.get("buckets", []):
            seen += count
            left = total["count"] - seen
            if left:
                rows.append((total["count"] / left, min(end, total["max_ns"])))
        if rows:
            data[name] = [(1, rows[0][1]), *rows, (total["count"], total["max_ns"])]
    picture = Picture(title, height=440)
    ticks = '"0" 1, "50" 2, "90" 10, "99" 100, "99.9" 1000, "99.99" 10000, "99.999" 100000, "99.9999" 1000000'
    picture.add(*time_axis("time (less is better)"), *log_axis("x", "percent of the messages that took at most so long"))
    picture.add(f"set xtics ({ticks})", "set mxtics 1", "set xrange [1:*]")
    return picture if curves(picture, data, points=False) else None


def many_pipes(results, placement):
    """One receiver and many pipes: four small pictures."""
    panels = (
        ("set-one", "the same pipe each time", False),
        ("set-any", "another pipe each time", False),
        ("set-wake", "another one, receiver asleep", False),
        ("set-busy", "all pipes busy", True),
    )
    picture = Picture("One receiver and many pipes", 1000, 640)
    picture.add(f'set multiplot layout 2,2 title "{picture.title}" font ",15" margins 0.08,0.83,0.09,0.88 spacing 0.1,0.19', "unset key")
    picture.add(*log_axis("x", "pipes into one receiver"))
    drawn = False
    for test, title, is_rate in panels:
        cells = sorted(results.cells(test=test, placement=placement, **FREE), key=lambda cell: cell.pipes)
        data = {name: [] for name in results.transports}
        for cell in cells:
            for name in results.names(cell):
                ns = results.value(cell, name, "ns").median
                data[name].append((cell.pipes, 1e3 / ns if is_rate else ns))
        picture.add(f'set title "{title}"', *(["set ytics autofreq", *log_axis("y", "million messages/s")] if is_rate else time_axis("time of a round trip")))
        if is_rate:
            picture.add("set key at screen 0.845,0.88 left top vertical Left reverse samplen 2.5")
        drawn |= len(cells) > 1 and curves(picture, data)
    picture.add("unset multiplot")
    return picture if drawn else None


def many_processes(results, placement):
    """As many senders as receivers on one pipe."""
    cells = [cell for cell in results.cells(test="many", placement=placement, **FREE) if cell.senders == cell.receivers]
    data = {name: [] for name in results.transports}
    for cell in sorted(cells, key=lambda cell: cell.senders):
        for name in results.names(cell):
            data[name].append((cell.senders, 1e3 / results.value(cell, name, "ns").median))
    data = {name: rows for name, rows in data.items() if len(rows) > 1}
    picture = Picture("Many processes on one pipe, 64 bytes, " + ("two CPUs" if placement == "two" else "one CPU") + " (more is better)", height=420)
    picture.add("set logscale x 2", 'set xlabel "senders, and as many receivers"', "set xtics (1, 2, 4, 8)", "set xrange [0.9:9]")
    picture.add(*log_axis("y", "million messages/s"))
    return picture if curves(picture, data) else None


def cpu_cost(results, cells, labels):
    """CPU time of both sides for a message: a place for each transport, a symbol for each cell."""
    names = [name for name in results.transports if any(name in results.names(cell) for cell in cells)]
    picture = Picture("CPU time for a message, both sides together (less is better)", height=520)
    ticks = ", ".join(f"{quoted(name)} {i}" for i, name in enumerate(names))
    picture.add(f"set xtics ({ticks}) rotate by 35 right", *time_axis("CPU time for a message"), f"set xrange [-0.5:{len(names) - 0.5}]")
    lines = []
    for k, (cell, label) in enumerate(zip(cells, labels)):
        rows = [(names.index(name), results.value(cell, name, "cpu_ns").median) for name in results.names(cell)]
        grey = 0x10 + 0x1C * k
        if rows:
            lines.append(f'{picture.block(rows)} using 1:2 with points pt {(7, 4, 9, 6, 3)[k % 5]} ps 1.3 lw 1.5 lc rgb "#{grey:02x}{grey:02x}{min(255, grey + 0x40):02x}" title {quoted(label)}')
    if not lines:
        return None
    picture.add("plot " + ", \\\n ".join(lines))
    return picture


def bars(title, label, rows):
    """Horizontal bars of (name, median, smallest, largest) on a logarithmic scale, the first on top."""
    picture = Picture(title, height=110 + 22 * len(rows))
    names = ", ".join(f"{quoted(name)} {-i}" for i, (name, *_) in enumerate(rows))
    block = picture.block((-i, *values) for i, (_, *values) in enumerate(rows))
    picture.add("unset key", "set logscale x 10", f'set xlabel "{label}"', f"set ytics ({names})", f"set yrange [{0.7 - len(rows)}:0.7]", "set style fill solid 1 noborder")
    picture.add(f"set xrange [1:{1.6 * max(largest for *_, largest in rows)}]")
    picture.add(
        f'plot {block} using 2:1:(1):2:($1-0.35):($1+0.35) with boxxyerror lc rgb "#74a9cf", \\\n'
        f' {block} using 2:1:3:4 with xerrorbars pt 0 lw 1.5 lc rgb "#08306b", \\\n'
        f' {block} using 4:1:(sprintf("  %.1f", $2)) with labels left'
    )
    return picture
