# SPDX-License-Identifier: MIT
"""Runs CPython's own tests of connections, waiting, queues, pools and executors against ours.

    python run.py METHOD [CLASS...]

METHOD is "fork", "spawn" or "forkserver".  sitecustomize.py, which must be on PYTHONPATH, makes the pipes
and queues of multiprocessing ours.  skips.txt says which tests are left out, and why.  Each test that takes
longer than a second is named.
"""

import fnmatch
import faulthandler
import importlib
import os
import sys
import time
import unittest

LONG = 120  # seconds that no test takes
SKIPPED = 77  # for Meson
CLASSES = {
    "test.test_multiprocessing_{method}": [
        *("WithProcessesTestConnection", "WithProcessesTestPicklingConnections", "WithProcessesTestPoll"),
        *("WithProcessesTestPollEintr", "WithProcessesTestListener", "WithProcessesTestListenerClient"),
        *("TestWait", "TestInvalidHandle", "TestCloseFds", "TestIgnoreEINTR", "TestTimeouts", "OtherTest"),
        *("WithProcessesTestQueue", "TestSimpleQueue", "WithProcessesTestPool", "TestPoolNotLeakOnFailure"),
        *("WithProcessesTestPoolWorkerErrors", "WithProcessesTestPoolWorkerLifetime", "TestInitializers"),
    ],
    "test.test_concurrent_futures": [
        *("ProcessPool{Method}AsCompletedTest", "ProcessPool{Method}ExecutorDeadlockTest"),
        *("ProcessPool{Method}FailingInitializerTest", "ProcessPool{Method}InitializerTest"),
        *("ProcessPool{Method}ProcessPoolExecutorTest", "ProcessPool{Method}ProcessPoolShutdownTest"),
        *("ProcessPool{Method}WaitTest",),
    ],
}


class Result(unittest.TextTestResult):
    def startTest(self, test):
        faulthandler.dump_traceback_later(LONG, exit=True)
        self.begin = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        took = time.monotonic() - self.begin
        if took > 1:
            self.stream.writeln(f" {took:.1f} s: {test.id()}")


def read_skips():
    """[(pattern, reason)]"""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "skips.txt")
    with open(path, encoding="utf-8") as lines:
        return [line.strip().split(": ", 1) for line in lines if line.strip() and not line.startswith("#")]


def classes(method):
    for module, names in CLASSES.items():
        loaded = importlib.import_module(module.format(method=method))
        for name in names:
            found = getattr(loaded, name.format(Method=method.capitalize()), None)
            if found:  # another version of CPython may have others
                yield found


def main(method, *only):
    skips = read_skips()
    suite = unittest.TestSuite()
    for each in classes(method):
        if only and each.__name__ not in only:
            continue
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(each):
            name = f"{each.__name__}.{test.id().rpartition('.')[2]}"
            reason = next((reason for pattern, reason in skips if fnmatch.fnmatchcase(name, pattern)), None)
            if reason:
                print(f"left out: {name}: {reason}", file=sys.stderr)
            else:
                suite.addTest(test)
    return not unittest.TextTestRunner(resultclass=Result).run(suite).wasSuccessful()


if __name__ == "__main__":
    try:
        importlib.import_module("test._test_multiprocessing")
        importlib.import_module("test.test_concurrent_futures")
    except (ImportError, unittest.SkipTest) as failure:
        print(f"CPython's tests are not there: {failure}", file=sys.stderr)
        sys.exit(SKIPPED)
    sys.exit(main(*sys.argv[1:]))
