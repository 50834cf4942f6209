# SPDX-License-Identifier: MIT
"""python3 -m buffered_pipe: runs the command bufpipe, which lists the pipes of this machine."""

import os
import shutil
import sys

USAGE = """usage: python3 -m buffered_pipe [ARGUMENT...]

Runs the command bufpipe with the arguments. Without arguments it runs "bufpipe list",
which shows the pipes of this machine, who holds them, how full they are and who waits.
"""

ABSENT = """buffered_pipe: there is no command bufpipe in PATH. It comes with the C library, not with the
Python package: build and install the library, or on Debian install the package bufpipe. Within
a program, end.stats() describes one pipe.
"""


def main(arguments):
    if arguments[:1] in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return 0
    command = shutil.which("bufpipe")
    if command is None:
        sys.stderr.write(ABSENT)
        return 127
    sys.stdout.flush()
    os.execv(command, ["bufpipe", *(arguments or ["list"])])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
