# SPDX-License-Identifier: MIT
"""What several tests need: a deadline for each, and threads and processes whose failures are not lost."""

import contextlib
import ctypes
import faulthandler
import gc
import os
import queue
import signal
import threading
import time
import unittest

LONG = 20  # seconds; nothing here takes that long
BLINK = 3  # seconds; the limit, on a busy machine, for what takes at most a fifth of a second


def end_after(seconds):
    """Ends this process with a traceback after that many seconds."""
    # A thread waits for that.  A preloaded sanitizer has locks of its own, and a fork copies them as they are: a child
    # that is forked while this thread starts could wait for such a lock for ever.  There the limit of the runner is enough.
    if "LD_PRELOAD" not in os.environ:
        faulthandler.dump_traceback_later(seconds, exit=True)


class TestCase(unittest.TestCase):
    def setUp(self):
        end_after(4 * LONG)
        self.addCleanup(faulthandler.cancel_dump_traceback_later)


@contextlib.contextmanager
def thread(function, *args):
    """Runs the function beside the block, and raises what it raised."""
    failures = []

    def run():
        try:
            function(*args)
        except BaseException as failure:
            failures.append(failure)

    running = threading.Thread(target=run, daemon=True)
    running.start()
    yield running
    running.join(LONG)
    if failures:
        raise failures[0]
    assert not running.is_alive(), "the thread does not end"


def fork():
    """os.fork(), but the child does not outlive us."""
    pid = os.fork()
    if pid == 0:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    return pid


@contextlib.contextmanager
def child(function, *args):
    """Runs the function in a forked process, which must succeed.  Yields its pid."""
    pid = fork()
    if pid == 0:
        status = 1
        try:
            function(*args)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)
    try:
        yield pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"


def asleep(task):
    """Whether a thread sleeps in the kernel; 'task' is its path below /proc."""
    with open(f"/proc/{task}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


def wait_asleep(native_id):
    """Waits until the thread has slept for a moment, and so is blocked in a call."""
    end = time.monotonic() + LONG
    seen = 0
    while seen < 5:
        seen = seen + 1 if asleep(f"self/task/{native_id}") else 0
        time.sleep(0.002)
        assert time.monotonic() < end, "it does not fall asleep"


def wait_until(condition):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.005)


def stopped_in_the_middle(sender, message):
    """Starts a process that sends the beginning of a long message, and stops it there."""
    pid = fork()
    if pid == 0:
        sender.send_bytes(message)
        sender.send_bytes(b"next")
        os._exit(0)
    wait_until(lambda: asleep(pid))
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
    return pid


def send_numbers(sender, name, count):
    for number in range(count):
        sender.send((name, number))


def give_and_leave(sender):
    sender.send("sent before it left")


def memfds():
    """How many rings this process has mapped or open."""
    gc.collect()
    with open("/proc/self/maps") as maps:
        mapped = sum("memfd:" in line for line in maps)
    return mapped + sum(
        "memfd:" in os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if exists(fd)
    )


def memory_of_files():
    """How many bytes of memory the files without a disk have, in the whole system."""
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Shmem:"))


def peak_memory():
    """The most bytes that this process has had in memory since the last call."""
    with open("/proc/self/status") as lines:
        peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    return peak


def exists(fd):
    return os.path.islink(f"/proc/self/fd/{fd}")


def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def collect(items):
    """Takes all that is in a queue."""
    found = []
    try:
        while True:
            found.append(items.get_nowait())
    except queue.Empty:
        return found
