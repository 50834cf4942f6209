# SPDX-License-Identifier: MIT
"""The examples of the documentation: each runs as a program of its own, and prints what its comments say."""

import contextlib
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from support import LONG, TestCase, wait_until

PYTHON = pathlib.Path(__file__).resolve().parents[1]
PEER = os.environ.get("BUFFERED_PIPE_README_PEER")
ADDRESS = "@shout"
WITHOUT_EXAMPLES = ("building.md", "reference.md")


def programs(path):
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def announced(program):
    """What the comments behind print() say that it prints, in their order."""
    return re.findall(r"\bprint\(.*\)  # (.*)$", program, re.MULTILINE)


@contextlib.contextmanager
def peer(address):
    """The program in C, which listens at the address."""
    with subprocess.Popen([PEER, address]) as process:
        try:
            wait_until(lambda: address in pathlib.Path("/proc/net/unix").read_text().split() or process.poll())
            yield
            assert process.wait(LONG) == 0, "the program in C failed"
        finally:
            process.kill()


class Readme(TestCase):
    def run_program(self, program):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder, "example.py")
            file.write_text(program, encoding="utf-8")
            result = subprocess.run(
                [sys.executable, file],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=3 * LONG,
            )
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertEqual(result.stdout.splitlines(), announced(program))

    def check(self, program):
        self.assertTrue(announced(program), "it says nothing of what it prints")
        if "import numpy" in program and not importlib.util.find_spec("numpy"):
            self.skipTest("needs numpy")
        if ADDRESS not in program:
            return self.run_program(program)
        if not PEER:
            self.skipTest("needs the program in C")
        # Others on this machine may run the same test.
        address = f"{ADDRESS}-{os.getpid()}"
        with peer(address):
            self.run_program(program.replace(ADDRESS, address))

    def check_all(self, path):
        found = programs(path)
        self.assertTrue(found)
        for number, program in enumerate(found):
            with self.subTest(number=number):
                self.check(program)

    def test_the_examples_of_the_package(self):
        self.check_all(PYTHON / "README.md")

    def test_the_examples_of_the_pages(self):
        for path in sorted((PYTHON / "docs").glob("*.md")):
            with self.subTest(page=path.name):
                if path.name not in WITHOUT_EXAMPLES:
                    self.check_all(path)

    def test_the_example_of_the_project(self):
        self.check_all(PYTHON.parent / "README.md")


if __name__ == "__main__":
    unittest.main()
