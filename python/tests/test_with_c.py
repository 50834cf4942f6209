# SPDX-License-Identifier: MIT
"""Programs in C on the other side."""

import os
import socket
import subprocess
import unittest

import buffered_pipe
from buffered_pipe import End
from support import LONG, TestCase, thread

PEER = os.environ.get("BUFFERED_PIPE_PEER")


@unittest.skipUnless(PEER, "needs the program in C")
class WithC(TestCase):
    def setUp(self):
        super().setUp()
        self.address = f"@buffered-pipe-test-{os.getpid()}"

    def start(self, *arguments, **more):
        process = subprocess.Popen([PEER, *arguments], stdout=subprocess.PIPE, text=True, **more)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        return process

    def converse(self, end, process):
        for message in (b"", b"abc", bytes(range(256)) * 2000):
            with thread(end.send_bytes, message):
                self.assertEqual(end.recv_bytes(timeout=LONG), message[::-1])
        end.close()
        self.assertEqual(process.wait(LONG), 0)

    def test_a_client_in_python(self):
        process = self.start("listen", self.address)
        self.assertEqual(process.stdout.readline(), "listening\n")
        end = buffered_pipe.connect(self.address, "rw", timeout=LONG)
        self.assertEqual(end.peer[0], process.pid)
        self.converse(end, process)

    def test_a_client_in_c(self):
        with buffered_pipe.listen(self.address, "rw") as listener:
            process = self.start("connect", self.address)
            self.converse(listener.accept(timeout=LONG), process)

    def test_a_peer_that_is_killed(self):
        process = self.start("listen", self.address)
        process.stdout.readline()
        end = buffered_pipe.connect(self.address, "rw", timeout=LONG)
        end.send_bytes(b"abc")
        self.assertEqual(end.recv_bytes(timeout=LONG), b"cba")
        process.kill()
        self.assertRaises(EOFError, end.recv_bytes, timeout=LONG)

    def test_an_end_that_c_hands_over(self):
        one, other = socket.socketpair()
        with one, other:
            process = self.start("hand", str(other.fileno()), pass_fds=[other.fileno()])
            receiver = End.recv_from(one)
            self.assertEqual(receiver.recv_bytes(timeout=LONG), b"from C")
            self.assertRaises(EOFError, receiver.recv_bytes, timeout=LONG)
            self.assertEqual(process.wait(LONG), 0)

    def test_an_end_that_threads_cannot_share_is_refused(self):
        one, other = socket.socketpair()
        with one, other:
            process = self.start("hand-unshared", str(other.fileno()), pass_fds=[other.fileno()])
            self.assertRaisesRegex(ValueError, "BUFPIPE_SHARED", End.recv_from, one)
            self.assertEqual(process.wait(LONG), 0)


if __name__ == "__main__":
    unittest.main()
