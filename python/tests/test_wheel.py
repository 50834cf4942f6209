# SPDX-License-Identifier: MIT
"""The wheel: what is in it, and whether it works on its own."""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

from support import TestCase

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = "import mesonpy, sys; mesonpy.build_wheel(sys.argv[1])"
USE = """
import importlib.metadata
import buffered_pipe
assert buffered_pipe.__version__ == importlib.metadata.version("buffered_pipe")
receiver, sender = buffered_pipe.Pipe(2048)
sender.send(buffered_pipe.__file__)
print(receiver.recv())
"""


@unittest.skipUnless(importlib.util.find_spec("mesonpy"), "needs meson-python")
class Wheel(TestCase):
    def test_it_has_the_package_and_no_more_and_works_elsewhere(self):
        def run(*args, **changes):
            environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
            return subprocess.run(
                [sys.executable, *args],
                cwd=changes.pop("cwd", None),
                env={**environment, **changes},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout

        with tempfile.TemporaryDirectory() as folder:
            run("-c", BUILD, folder, cwd=ROOT)
            (wheel,) = pathlib.Path(folder).glob("*.whl")
            self.assertRegex(wheel.name, r"^buffered_pipe-[\d.]+-cp\d+-cp\w+-linux_\w+\.whl$")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
                names = [name for name in archive.namelist() if ".dist-info/" not in name]
            names = [re.sub(r"^(.*/_core)\..*\.so$", r"\1", name) for name in names]
            package = ROOT / "python" / "buffered_pipe"
            sources = {path.name for path in package.iterdir() if path.suffix in (".py", ".pyi", ".typed")} | {"_core"}
            self.assertEqual(sorted(names), sorted(f"buffered_pipe/{name}" for name in sources))
            self.assertTrue(run("-c", USE, PYTHONPATH=folder, cwd=folder).startswith(folder))
            (extension,) = pathlib.Path(folder, "buffered_pipe").glob("_core.*.so")
            self.check_needs(extension)

    def check_needs(self, extension):
        """What auditwheel requires of a wheel for many systems, except how old these systems may be."""
        if not shutil.which("readelf"):
            return
        text = subprocess.run(["readelf", "-dVW", extension], check=True, stdout=subprocess.PIPE, text=True).stdout
        needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", text))
        self.assertLessEqual(needed, {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"})
        self.assertNotRegex(text, r"\((RPATH|RUNPATH)\).*\[/")
        versions = re.findall(r"Name: GLIBC_2\.(\d+)", text)
        self.assertTrue(versions)
        self.assertLessEqual(max(map(int, versions)), int(os.confstr("CS_GNU_LIBC_VERSION").split(".")[1]))


if __name__ == "__main__":
    unittest.main()
