# SPDX-License-Identifier: MIT
"""Handles of an end: closing, forking, the end of the stream, many threads."""

import threading
import unittest

import buffered_pipe
from buffered_pipe import End, Generic_Pipe, Static_Pipe
from support import LONG, TestCase


class Handles(TestCase):
    def test_register_may_be_called_at_any_time(self):
        receiver, sender = Generic_Pipe(2048)
        for _ in range(3):
            self.assertIsNone(receiver.register())
            sender.register()
        sender.send(1)
        self.assertEqual(receiver.recv(), 1)

    def test_a_fork_is_another_handle_with_a_life_of_its_own(self):
        receiver, sender = Generic_Pipe(2048)
        other = sender.fork()
        self.assertIsInstance(other, End)
        self.assertIsNot(other, sender)
        sender.close()
        other.send("still there")
        self.assertEqual(receiver.recv(), "still there")
        other.close()
        self.assertRaises(EOFError, receiver.recv)

    def test_the_end_comes_after_what_was_sent(self):
        receiver, sender = Generic_Pipe(2048)
        sender.send("last")
        sender.close()
        self.assertEqual(receiver.recv(), "last")
        for _ in range(2):
            self.assertRaises(EOFError, receiver.recv)
            self.assertRaises(EOFError, receiver.recv_bytes, timeout=0)
            self.assertTrue(receiver.poll())

    def test_sending_to_nobody(self):
        receiver, sender = Generic_Pipe(2048)
        del receiver
        with self.assertRaises(BrokenPipeError):
            while True:
                sender.send_bytes(b"x", timeout=1)

    def test_what_is_sent_after_the_receivers_shutdown_is_not_delivered(self):
        for receiver, sender in Generic_Pipe(4096), Static_Pipe(4, 4):
            sender.send_bytes(b"good")
            receiver.shutdown()
            for _ in range(2):
                self.assertRaises(BrokenPipeError, sender.send_bytes, b"evil")
            self.assertEqual(receiver.recv_bytes(), b"good")
            self.assertRaises(EOFError, receiver.recv_bytes, timeout=LONG)

    def test_shutdown_ends_the_stream_for_all_handles(self):
        receiver, sender = Generic_Pipe(2048)
        other = sender.fork()
        sender.send(1)
        sender.shutdown()
        self.assertRaises(BrokenPipeError, other.send, 2)
        self.assertEqual(receiver.recv(), 1)
        self.assertRaises(EOFError, receiver.recv)

    def test_a_closed_handle_says_so(self):
        receiver, sender = Generic_Pipe(2048)
        self.assertFalse(receiver.closed)
        with receiver, sender:
            pass
        receiver.close()
        self.assertTrue(receiver.closed)
        for call in (
            receiver.recv,
            receiver.recv_bytes,
            receiver.poll,
            receiver.fileno,
            receiver.register,
            receiver.fork,
            receiver.recv_view,
            receiver.__enter__,
            receiver.shutdown,
            lambda: receiver.buffer_size,
            lambda: receiver.recv_bytes(1),
            lambda: receiver.recv_bytes_into(bytearray(1)),
            lambda: sender.send(1),
            lambda: sender.send_bytes(b""),
            lambda: sender.send_view(1),
            lambda: buffered_pipe.wait([receiver], 0),
        ):
            with self.assertRaisesRegex(OSError, "closed"):
                call()
        # As in multiprocessing.
        self.assertEqual((receiver.readable, receiver.writable), (True, False))
        self.assertEqual((sender.readable, sender.writable), (False, True))

    def test_many_threads_send_and_receive_at_once(self):
        receiver, sender = Generic_Pipe(1024)
        each, senders, receivers = 2000, 4, 3
        got = []

        def receive():
            mine = []
            try:
                while True:
                    mine.append(receiver.recv())
            except EOFError:
                got.extend(mine)

        takers = [threading.Thread(target=receive) for _ in range(receivers)]
        givers = [
            threading.Thread(target=lambda n=n: [sender.send((n, i)) for i in range(each)])
            for n in range(senders)
        ]
        for running in takers + givers:
            running.start()
        for running in givers:
            running.join()
        sender.close()
        for running in takers:
            running.join()
        self.assertEqual(sorted(got), [(n, i) for n in range(senders) for i in range(each)])


if __name__ == "__main__":
    unittest.main()
