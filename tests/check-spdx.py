#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that every file under version control names its licence in its first lines."""

import pathlib
import subprocess
import sys

LINE = 'SPDX-License-Identifier: MIT'

# Data that has no place for a comment, and what Debian keeps in debian/copyright.
EXEMPT = {'LICENSE', 'tests/fuzz/corpus', 'debian'}


def is_exempt(name):
    return name.endswith('.svg') or any(name == entry or name.startswith(entry + '/') for entry in EXEMPT)


def main():
    root = pathlib.Path(sys.argv[1])
    try:
        listed = subprocess.run(['git', '-C', root, 'ls-files', '-z'], capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        print('this is no git checkout, so the list of files is unknown')
        return 77
    wrong = []
    for name in sorted(filter(None, listed.split('\0'))):
        path = root / name
        if is_exempt(name) or not path.is_file():
            continue
        first = path.read_text(encoding='utf-8').split('\n', 5)[:5]
        if not any(LINE in line for line in first):
            wrong.append(f'{name}: none of the first five lines says "{LINE}"')
    print('\n'.join(wrong) or 'every file names its licence')
    return bool(wrong)


sys.exit(main())
