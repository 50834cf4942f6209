#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Picks the few files of a large corpus that reach most of the code.

First run fuzz_pipe -merge=1 -merge_control_file=CONTROL EMPTY FOUND, where EMPTY is an empty folder and FOUND has the
files that the fuzzer found.  It runs them, the smallest first, and notes in CONTROL which places in the code each is the
first to reach.  Then distil.py CONTROL CORPUS replaces the files in CORPUS by the best of them.
"""

import pathlib
import shutil
import sys

MOST = 48


def read_control(path):
    """The files, and how many places in the code each reaches that no smaller one does."""
    lines = pathlib.Path(path).read_text().splitlines()
    count = int(lines[0])
    files = [pathlib.Path(name) for name in lines[2 : 2 + count]]
    gains = {}
    for line in lines[2 + count :]:
        kind, index, *places = line.split()
        if kind == 'COV':
            gains[files[int(index)]] = len(places)
    return gains


def main():
    control, corpus = sys.argv[1:]
    gains = read_control(control)
    best = sorted(gains, key=lambda f: -gains[f])[:MOST]
    print(f'{sum(gains[f] for f in best)} of {sum(gains.values())} places')
    for path in pathlib.Path(corpus).iterdir():
        path.unlink()
    for number, path in enumerate(sorted(best, key=lambda f: f.stat().st_size)):
        shutil.copy(path, pathlib.Path(corpus) / f'{number:02}')


main()
