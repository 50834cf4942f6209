#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that debian/libbufpipe0.symbols names what lib/bufpipe.map exports."""

import pathlib
import re
import sys


def main():
    root = pathlib.Path(sys.argv[1])
    exported = set(re.findall(r'\t(bufpipe_\w+);', (root / 'lib' / 'bufpipe.map').read_text(encoding='utf-8')))
    packaged = set(re.findall(r'^ (bufpipe_\w+)@', (root / 'debian' / 'libbufpipe0.symbols').read_text(encoding='utf-8'), re.M))
    for name in sorted(exported - packaged):
        print(f'debian/libbufpipe0.symbols: {name} is missing')
    for name in sorted(packaged - exported):
        print(f'debian/libbufpipe0.symbols: {name} is not exported')
    if not exported:
        print('lib/bufpipe.map exports nothing')
    return not exported or exported != packaged


sys.exit(main())
