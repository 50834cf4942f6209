#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What meson test --benchmark runs: a quick measurement against the one that was kept.

    check.py BENCH KEPT [ARGUMENT...]

The first run on a machine keeps its result as KEPT.  Later ones fail when a
figure is worse than the kept one beyond the noise of both, in two measurements
after each other, or when a measurement fails.  On a machine that is busy with other things nothing is kept,
and there is no verdict: the test is skipped.  Remove KEPT to keep the next result.
The arguments go to the benchmark; they have to be the same each time for figures to
be found again.
"""

import os
import shutil
import subprocess
import sys
import tempfile

from compare import CANNOT_COMPARE, compare, line, obstacle, too_noisy
from results import Results, failure_texts

QUICK = [
    *("--quick", "--rounds", "5", "--only", "bufpipe,bufpipe-static,bufpipe-shared,set", "--pipes", "10,100"),
    *("--tests", "trip,stream,asleep,rate,many,pairs,set-one,set-any,set-wake"),
]


def measure(bench, arguments, directory):
    """The path of a result, and what it holds; ends the test if a measurement failed."""
    path = os.path.join(directory, "new.json")
    done = subprocess.run([bench, *(arguments or QUICK), "--json", path], stdout=subprocess.DEVNULL, check=False)
    results = Results(path) if os.path.exists(path) else None
    if done.returncode:
        for text in failure_texts(results) if results else []:
            print(f"FAILED {text}")
        print(f"the benchmark failed with status {done.returncode}")
        sys.exit(1)
    return path, results


def worse_than(kept, new):
    reason = obstacle(kept, new)
    if reason:
        print(f"cannot compare: {reason}")
        sys.exit(CANNOT_COMPARE)
    return {entry[:3]: entry for entry in compare(kept, new) if entry[-1] < 0}


def main():
    bench, kept_path, *arguments = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        path, new = measure(bench, arguments, directory)
        if not os.path.exists(kept_path):
            reason = too_noisy(new)
            if reason:
                print(f"not kept: {reason}")
                return CANNOT_COMPARE
            shutil.copy(path, kept_path)
            print(f"kept as the first result: {kept_path}")
            return 0
        kept = Results(kept_path)
        worse = worse_than(kept, new)
        if worse:
            # One of hundreds of figures may be worse by chance, so measure once more.
            again = worse_than(kept, measure(bench, arguments, directory)[1])
            worse = {key: entry for key, entry in again.items() if key in worse}
    for entry in worse.values():
        print(line(entry))
    print(f"{len(worse)} figures are worse than in {kept_path}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
