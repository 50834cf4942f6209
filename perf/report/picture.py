#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the picture of README.md from the first table of docs/figures.md.

    perf/report/picture.py docs/figures.md docs/figures.svg

The picture shows the published figures and nothing else: draw it again when the table changes.  Needs gnuplot.
"""

import math
import os
import re
import sys

from plots import Picture, log_axis, size_axis

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
# Colour, dash, symbol and width; they differ in brightness and dash too, so the picture can be read in grey.
STYLES = (("#08306b", "1", 7, 3), ("#2171b5", "2", 5, 2.5), ("#bf812d", "4", 9, 2), ("#808080", "3", 11, 2))
PANELS = (("round trip", "Round trips"), ("stream", "Streams"))


def table(path):
    """The sizes in bytes, and for each row its name and its ranges."""
    sizes, rows = [], []
    with open(path, encoding="utf-8") as file:
        for line in file:
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not line.startswith("|"):
                if rows:
                    break
            elif not sizes:
                sizes = [int(n) * UNITS[unit] for n, unit in (cell.split() for cell in cells[1:])]
            elif not cells[1].startswith("---"):
                rows.append((cells[0], [[float(n) for n in re.split("–", cell)] for cell in cells[1:]]))
    return sizes, rows


def panel(picture, sizes, rows, kind, title):
    picture.add(*size_axis(sizes), *log_axis("y", "times as fast as a Unix pipe"), "set yrange [0.8:500]", f'set title "{title}"')
    lines = ["1 with lines lc rgb '#000000' lw 2 title 'Unix pipe'"]
    chosen = [(name.split(", ", 1)[1], cells) for name, cells in rows if name.startswith(kind)]
    for (name, cells), (colour, dash, symbol, width) in zip(chosen, STYLES):
        data = [(size, math.sqrt(cell[0] * cell[-1]), cell[0], cell[-1]) for size, cell in zip(sizes, cells)]
        block = picture.block(data)
        lines.append(f'{block} using 1:2:3:4 with yerrorbars pt 0 lw 1.5 lc rgb "{colour}" notitle')
        lines.append(f'{block} using 1:2 with linespoints pt {symbol} ps 0.8 dt {dash} lw {width} lc rgb "{colour}" title "{name}"')
    picture.add("plot " + ", \\\n ".join(lines))


def main():
    if len(sys.argv) != 3 or not sys.argv[2].endswith(".svg"):
        sys.exit(__doc__)
    sizes, rows = table(sys.argv[1])
    picture = Picture("How many times as fast as a Unix pipe (bars: smallest and largest)", 900, 400)
    picture.add(f'set multiplot layout 1,2 title "{picture.title}" font ",15" margins 0.07,0.81,0.15,0.82 spacing 0.08', "unset key")
    panel(picture, sizes, rows, *PANELS[0])
    picture.add("set key at screen 0.825,0.82 left top vertical Left reverse samplen 2.5")
    panel(picture, sizes, rows, *PANELS[1])
    picture.add("unset multiplot")
    directory, name = os.path.split(sys.argv[2])
    picture.draw(directory or ".", name.removesuffix(".svg"))


if __name__ == "__main__":
    main()
