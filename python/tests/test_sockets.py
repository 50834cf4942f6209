# SPDX-License-Identifier: MIT
"""Ends that go over a socket, by send_to() and recv_from()."""

import contextlib
import os
import signal
import socket
import threading
import unittest

from buffered_pipe import End, Generic_Pipe
from support import LONG, TestCase, thread, wait_asleep, wait_until


class HandOver(TestCase):
    def test_an_end_goes_over_a_socket(self):
        one, other = socket.socketpair()
        with one, other:
            receiver, sender = Generic_Pipe(2048)
            sender.send_to(one)
            sender.close()
            self.assertFalse(receiver.poll())
            End.recv_from(other).send("hello")
            self.assertEqual(receiver.recv(), "hello")
            self.assertRaises(EOFError, receiver.recv)

    def test_a_socket_with_a_timeout(self):
        one, other = socket.socketpair()
        with one, other:
            receiver, sender = Generic_Pipe(2048)
            other.settimeout(0)
            self.assertRaises(OSError, End.recv_from, other)
            other.settimeout(0.05)
            self.assertRaises(TimeoutError, End.recv_from, other)
            one.settimeout(0.05)
            sent = 0
            with self.assertRaises(TimeoutError):
                while True:
                    sender.send_to(one)
                    sent += 1
            for each in one, other:
                each.settimeout(LONG)
            with thread(lambda: [sender.send_to(one) for _ in range(3)]) as running:
                wait_asleep(running.native_id)
                for _ in range(sent + 3):
                    self.assertTrue(End.recv_from(other).writable)

    def test_a_socket_that_is_closed_meanwhile_is_not_mistaken_for_another(self):
        class Replaced:
            """While it is asked for its timeout, its descriptor becomes another file."""

            def __init__(self):
                self.socket, self.peer = socket.socketpair()
                self.fileno = self.socket.fileno

            def gettimeout(self):
                number = self.socket.detach()
                self.strangers = socket.socketpair()
                os.dup2(self.strangers[0].fileno(), number)
                self.number = number
                return 0

        receiver, sender = Generic_Pipe(2048)
        for use_it in (sender.send_to, End.recv_from):
            replaced = Replaced()
            with self.assertRaises(ValueError):
                use_it(replaced)
            os.close(replaced.number)
            for each in (replaced.peer, *replaced.strangers):
                each.close()

    def test_a_handler_that_returns_while_a_socket_is_full(self):
        one, other = socket.socketpair()
        with one, other:
            receiver, sender = Generic_Pipe(2048)
            main = threading.get_native_id()
            seen = []
            before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))

            def disturb():
                wait_asleep(main)
                os.kill(os.getpid(), signal.SIGUSR1)
                wait_until(lambda: seen)
                wait_asleep(main)
                # Makes room until the end has been sent.
                while not done:
                    with contextlib.suppress(TimeoutError):
                        End.recv_from(other)

            try:
                one.setblocking(False)
                with contextlib.suppress(OSError):
                    while True:
                        sender.send_to(one)
                one.setblocking(True)
                other.setblocking(False)
                done = []
                with thread(disturb):
                    sender.send_to(one)
                    done.append(1)
            finally:
                signal.signal(signal.SIGUSR1, before)

    def test_what_is_not_an_end_is_refused(self):
        one, other = socket.socketpair()
        with one, other:
            one.send(b"x" * 100)
            self.assertRaises(OSError, End.recv_from, other)
            one.close()
            self.assertRaises(OSError, End.recv_from, other)
        self.assertRaises((TypeError, ValueError), End.recv_from, "socket")
        self.assertRaises(OSError, End.recv_from, 987654)


if __name__ == "__main__":
    unittest.main()
