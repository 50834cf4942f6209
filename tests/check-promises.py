# SPDX-License-Identifier: MIT
"""Each test that a page of promises names exists: a promise without its test is none.

And each test is in a suite that its file defines, or has an .init of its own: otherwise nobody would look for what it
leaks, and it would have no time limit.
"""

import pathlib
import re
import sys

pages, tests = [pathlib.Path(name) for name in sys.argv[1:-1]], pathlib.Path(sys.argv[-1])
found = set()
failed = False
for source in sorted(tests.rglob("test_*.c")):
    text = source.read_text()
    suites = set(re.findall(r"^(?:SUITE|TestSuite)\((\w+)", text, re.MULTILINE))
    for suite, test, options in re.findall(r"^(?:Test|BOTH)\((\w+), (\w+)(.*)", text, re.MULTILINE):
        found.add((suite, test))
        if suite not in suites and ".init" not in options:
            print(f"{source.name}: there is no SUITE({suite}) for {test}", file=sys.stderr)
            failed = True
for page in pages:
    named = [n for n in re.findall(r"`([a-z_]+)/([a-z0-9_]+)`", page.read_text()) if n[0] not in ("tests", "lib")]
    missing = [f"{suite}/{test}" for suite, test in named if (suite, test) not in found]
    for name in missing:
        print(f"{page.name} names {name}, and there is no such test", file=sys.stderr)
    # Scripts, programs and the like, which no suite names.
    root = tests.parent
    paths = re.findall(r"`((?:examples|man|python|tests|tools)/[\w./-]+\.\w+)`", page.read_text())
    for path in [path for path in paths if not (root / path).is_file()]:
        print(f"{page.name} names {path}, and there is no such file", file=sys.stderr)
        failed = True
    failed |= bool(missing) or not named
sys.exit(failed)
