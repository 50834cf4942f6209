# SPDX-License-Identifier: MIT
"""Each test that a page of promises names exists: a promise without its test is none."""

import pathlib
import re
import sys

pages, tests = [pathlib.Path(name) for name in sys.argv[1:-1]], pathlib.Path(sys.argv[-1])
found = set()
for source in tests.rglob("test_*.c"):
    found |= set(re.findall(r"^(?:Test|BOTH)\((\w+), (\w+)", source.read_text(), re.MULTILINE))
failed = False
for page in pages:
    named = [n for n in re.findall(r"`([a-z_]+)/([a-z0-9_]+)`", page.read_text()) if n[0] not in ("tests", "lib")]
    missing = [f"{suite}/{test}" for suite, test in named if (suite, test) not in found]
    for name in missing:
        print(f"{page.name} names {name}, and there is no such test", file=sys.stderr)
    failed |= bool(missing) or not named
sys.exit(failed)
