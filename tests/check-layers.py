#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the direction of includes.

Each folder of lib/ includes only itself and the folders below it. Outside lib/ only tests include its files, and those
in tests/promises do not. No files include each other in a circle, in lib/ or elsewhere; a source file and its header
count as one file here.
"""

import pathlib
import re
import sys

# From the lowest up.
LAYERS = ['base', 'memory', 'ring', 'sync', 'end', 'connect', 'poll']

# These two do not use each other.
SIBLINGS = {'connect', 'poll'}

FOLDERS = ['lib', 'tools', 'python/src', 'perf', 'examples', 'tests']

# The command reads the shared memory of other processes, and must know where everything is in it.
ALLOWED = {('tools/inspect', 'lib/memory/layout.h')}

# These do a part of the work of wait.c and lock.c on the structures of those, and count as a part of them.
PARTS = {'lib/sync/spin': 'lib/sync/wait', 'lib/sync/order': 'lib/sync/wait', 'lib/sync/heal': 'lib/sync/lock'}


def includes(path):
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        found = re.match(r'\s*#\s*include "(.*)"', line)
        if found and found[1] not in ('bufpipe.h', 'bufpipe_uring.h'):
            yield number, found[1]


def find(root, path, name):
    """The file that an include means, relative to root; None if the build makes it."""
    for folder in (path.parent, root / 'lib', root / 'tests'):
        if (folder / name).is_file():
            return (folder / name).resolve().relative_to(root)
    return None


def wrong_in_lib(path, where, number, name):
    layer = path.parent.name
    other = name.split('/')[0]
    if layer not in LAYERS:
        return f'{where}: not in a layer'
    if '/' not in name or other not in LAYERS:
        return f'{where}:{number}: {name}: give the path from lib/'
    if LAYERS.index(other) > LAYERS.index(layer) or {layer, other} == SIBLINGS:
        return f'{where}:{number}: {layer} must not use {other}'
    return None


def may_use_lib(path, other):
    return (path.parts[0] == 'lib' or
            path.parts[0] == 'tests' and path.parts[1] != 'promises' or
            (str(path.parent), str(other)) in ALLOWED)


def unit(path):
    name = str(path.with_suffix(''))
    return PARTS.get(name, name)


def circles(uses):
    """Each circle once, as the units on the way from one back to itself."""
    found = []
    finished = set()

    def follow(name, way):
        if name in way:
            found.append(way[way.index(name):] + [name])
        elif name not in finished:
            for other in sorted(uses.get(name, ())):
                follow(other, way + [name])
            finished.add(name)

    for name in sorted(uses):
        follow(name, [])
    return found


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    wrong = []
    uses = {}
    for path in sorted(p for folder in FOLDERS for p in (root / folder).rglob('*.[ch]')):
        where = path.relative_to(root)
        for number, name in includes(path):
            if where.parts[0] == 'lib':
                wrong.append(wrong_in_lib(path, where, number, name))
            other = find(root, path, name)
            if other is None:
                continue
            if other.parts[0] == 'lib' and not may_use_lib(where, other):
                wrong.append(f'{where}:{number}: {name}: use the public header alone')
            if unit(other) != unit(where):
                uses.setdefault(unit(where), set()).add(unit(other))
    wrong += ['a circle: ' + ' -> '.join(circle) for circle in circles(uses)]
    wrong = list(filter(None, wrong))
    print('\n'.join(wrong) or 'every include points down')
    return bool(wrong)


sys.exit(main())
