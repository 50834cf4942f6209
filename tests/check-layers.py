#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that each folder of lib/ includes only itself and the folders below it."""

import pathlib
import re
import sys

# From the lowest up.
LAYERS = ['base', 'memory', 'ring', 'sync', 'end', 'connect', 'poll']

# These two do not use each other.
SIBLINGS = {'connect', 'poll'}


def main():
    lib = pathlib.Path(sys.argv[1])
    wrong = []
    for path in sorted(lib.rglob('*.[ch]')):
        layer = path.parent.name
        if layer not in LAYERS:
            wrong.append(f'{path}: not in a layer')
            continue
        for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
            found = re.match(r'#include "(.*)"', line)
            if not found or found[1] in ('bufpipe.h', 'bufpipe_uring.h'):
                continue
            other = found[1].split('/')[0]
            if '/' not in found[1] or other not in LAYERS:
                wrong.append(f'{path}:{number}: {found[1]}: give the path from lib/')
            elif LAYERS.index(other) > LAYERS.index(layer) or {layer, other} == SIBLINGS:
                wrong.append(f'{path}:{number}: {layer} must not use {other}')
    print('\n'.join(wrong) or 'every include points down')
    return bool(wrong)


sys.exit(main())
