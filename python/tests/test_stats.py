# SPDX-License-Identifier: MIT
"""The statistics of a pipe, and python3 -m buffered_pipe."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import unittest

from buffered_pipe import Generic_Pipe, Queue, SimpleQueue
from support import LONG, TestCase, child, thread, wait_asleep, wait_until

TOOL = os.environ.get("BUFFERED_PIPE_TOOL")


class Stats(TestCase):
    def test_what_was_sent_and_is_not_received_yet(self):
        receiver, sender = Generic_Pipe(4096)
        for _ in range(3):
            sender.send_bytes(b"x" * 10)
        receiver.recv_bytes()
        stats = sender.stats()
        self.assertIsNone(stats.receives)
        self.assertGreaterEqual(stats.sends.size, 4096)
        self.assertEqual(stats.sends.messages, 2)
        self.assertEqual(stats.sends.used, 2 * (16 + 8))
        self.assertEqual(stats.sends.sender.messages, 3)
        self.assertEqual(stats.sends.sender.bytes, 3 * (16 + 8))
        self.assertEqual(stats.sends.receiver.messages, 1)
        # The other end sees the same direction.
        seen = receiver.stats()
        self.assertIsNone(seen.sends)
        self.assertEqual(seen.receives, stats.sends)

    def test_both_directions_of_a_duplex_pipe(self):
        one, other = Generic_Pipe()
        one.send(1)
        self.assertEqual(one.stats().sends.messages, 1)
        self.assertEqual(one.stats().receives.messages, 0)
        self.assertEqual(other.stats().receives.messages, 1)

    def test_tries_that_found_nothing(self):
        receiver, sender = Generic_Pipe(4096)
        for _ in range(4):
            self.assertRaises(TimeoutError, receiver.recv, timeout=0)
        self.assertEqual(receiver.stats().receives.receiver.refusals, 4)

    def test_a_sleeper_is_shown_with_its_time_in_seconds(self):
        receiver, sender = Generic_Pipe(4096)
        sleeper = []

        def receive():
            sleeper.append(threading.get_native_id())
            receiver.recv()

        with thread(receive):
            wait_until(lambda: sleeper)
            wait_asleep(sleeper[0])
            wait_until(lambda: receiver.stats().receives.receiver.asleep > 0.01)
            self.assertLess(receiver.stats().receives.receiver.asleep, LONG)
            sender.send(1)
        side = receiver.stats().receives.receiver
        self.assertEqual(side.asleep, 0)
        self.assertGreaterEqual(side.waits, 1)
        self.assertGreaterEqual(side.sleeps, 1)
        self.assertGreater(side.slept, 0)

    def test_all_processes_count(self):
        receiver, sender = Generic_Pipe(4096)
        with child(lambda: [sender.send_bytes(b"") for _ in range(5)]):
            pass
        self.assertEqual(sender.stats().sends.sender.messages, 5)
        self.assertEqual(sender.stats().sends.messages, 5)

    def test_of_a_closed_end(self):
        receiver, sender = Generic_Pipe(4096)
        sender.close()
        self.assertRaisesRegex(OSError, "closed", sender.stats)

    def test_queues(self):
        for queue in Queue(), SimpleQueue():
            queue.put(1)
            queue.put(2)
            queue.get()
            self.assertEqual(queue.stats().messages, 1)
            self.assertEqual(queue.stats().sender.messages, 2)
            self.assertEqual(queue.stats().receiver.messages, 1)
            queue.close()
            self.assertRaises((OSError, ValueError), queue.stats)


class Command(TestCase):
    def run_module(self, *arguments, path):
        return subprocess.run(
            [sys.executable, "-m", "buffered_pipe", *arguments],
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=3 * LONG,
        )

    def test_it_runs_the_command(self):
        with tempfile.TemporaryDirectory() as directory:
            command = os.path.join(directory, "bufpipe")
            with open(command, "w") as script:
                script.write('#!/bin/sh\necho "$@"\nexit 3\n')
            os.chmod(command, 0o755)
            for arguments, expected in ((), "list"), (("show", "--json", "1"), "show --json 1"):
                done = self.run_module(*arguments, path=directory)
                self.assertEqual((done.stdout, done.stderr, done.returncode), (expected + "\n", "", 3))
            self.assertRegex(self.run_module("--help", path=directory).stdout, "^usage: ")

    def test_without_the_command_it_says_where_to_get_it(self):
        with tempfile.TemporaryDirectory() as directory:
            done = self.run_module(path=directory)
            self.assertEqual((done.returncode, done.stdout), (127, ""))
            self.assertIn("It comes with the C library", done.stderr)

    @unittest.skipUnless(TOOL, "the command is not built")
    def test_our_own_pipe_is_in_the_list(self):
        receiver, sender = Generic_Pipe(4096, name="of-the-test-of-python")
        sender.send(1)
        path = os.path.dirname(TOOL)
        done = self.run_module("list", "--pid", str(os.getpid()), "--json", path=path)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("of-the-test-of-python", done.stdout)
        json.loads(done.stdout)


if __name__ == "__main__":
    unittest.main()
