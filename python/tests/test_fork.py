# SPDX-License-Identifier: MIT
"""Ends and views in forked processes, and after the death of one."""

import os
import signal
import threading
import unittest

from buffered_pipe import Generic_Pipe
from support import (
    LONG,
    TestCase,
    asleep,
    child,
    fork,
    memfds,
    memory_of_files,
    send_numbers,
    thread,
    wait_asleep,
    wait_until,
)


class AfterFork(TestCase):
    def test_parent_and_child_use_the_same_ends(self):
        receiver, sender = Generic_Pipe(4096)
        count = 3000
        with child(send_numbers, sender, "child", count):
            with thread(send_numbers, sender, "parent", count):
                got = [receiver.recv(timeout=LONG) for _ in range(2 * count)]
        self.assertEqual(sorted(got), [(name, i) for name in ("child", "parent") for i in range(count)])

    def test_a_child_that_was_forked_while_threads_were_blocked_can_close_its_ends(self):
        back_receiver, back_sender = Generic_Pipe(4096)
        before = memfds()
        receiver, sender = Generic_Pipe(4096)

        def close():
            receiver.close()
            sender.close()
            back_sender.send(memfds())

        with thread(lambda: self.assertEqual(receiver.recv(timeout=LONG), "wake")) as running:
            wait_asleep(running.native_id)
            with child(close):
                left = back_receiver.recv(timeout=LONG)
            sender.send("wake")
        self.assertEqual(left, before)

    def in_a_forked_handler(self, receiver, in_handler, after):
        """Forks in a signal handler while recv() is blocked.  The child calls the first function there, the second after recv()."""
        main = threading.get_native_id()
        forked = []

        def handler(*_):
            forked.append(fork())
            if forked[-1] == 0:
                in_handler()

        def disturb():
            wait_asleep(main)
            os.kill(os.getpid(), signal.SIGUSR1)
            wait_until(lambda: forked)
            self.assertEqual(os.waitpid(forked[0], 0)[1], 0)
            os.kill(os.getpid(), signal.SIGUSR2)

        def stop(*_):
            raise KeyError

        before = signal.signal(signal.SIGUSR1, handler), signal.signal(signal.SIGUSR2, stop)
        status = 1
        try:
            with thread(disturb):
                try:
                    receiver.recv(timeout=LONG)
                except (KeyError, OSError) as error:
                    if forked[0] == 0:
                        after(error)
                        status = 0
                    else:
                        self.assertIsInstance(error, KeyError)
                finally:
                    if forked and forked[0] == 0:
                        os._exit(status)
        finally:
            signal.signal(signal.SIGUSR1, before[0])
            signal.signal(signal.SIGUSR2, before[1])

    def test_a_child_forked_in_a_handler_closes_the_end_of_the_call(self):
        before = memfds()
        receiver, sender = Generic_Pipe(4096)
        kept = []

        def close():
            mapped = memfds()
            receiver.close()
            self.assertEqual(memfds(), mapped)  # for the call that goes on
            kept.extend(bytearray(200) for _ in range(1000))  # they would use freed memory again

        def after(error):
            self.assertRegex(str(error), "closed")
            sender.close()
            self.assertEqual(memfds(), before)

        self.in_a_forked_handler(receiver, close, after)
        sender.send("usable")
        self.assertEqual(receiver.recv(), "usable")

    def test_a_child_forked_in_a_handler_uses_the_end_of_the_call(self):
        before = memfds()
        receiver, sender = Generic_Pipe(4096)

        def after(error):
            def receive():
                self.assertRaisesRegex(OSError, "closed", receiver.recv)

            with thread(receive) as running:
                wait_asleep(running.native_id)
                receiver.close()
            sender.close()
            self.assertEqual(memfds(), before)

        def fail():
            self.assertFalse(receiver.poll(0.001))
            raise KeyError

        self.in_a_forked_handler(receiver, fail, after)
        sender.send("usable")
        self.assertEqual(receiver.recv(), "usable")

    def test_a_view_in_a_child_keeps_the_memory(self):
        receiver, sender = Generic_Pipe(4096)
        sender.send_bytes(b"0123456789")

        def use(view):
            receiver.close()
            sender.close()
            self.assertEqual(view, b"0123456789")

        with receiver.recv_view() as view:
            with child(use, view):
                pass
        self.assertFalse(receiver.poll())

    def view_of_another_thread_in_a_child(self, in_child, close_before=False):
        """Forks while a thread is in a view.  The child calls in_child with the handles and what the thread keeps."""
        receiver, sender = Generic_Pipe(4096)
        sender.send_bytes(b"0123456789")
        other = sender.fork()
        kept = []
        entered, leave = threading.Event(), threading.Event()

        def look():
            message = receiver.recv_view()
            with message as received, sender.send_view(4) as sent:
                sent[:] = b"good"
                kept.extend([received, message])
                entered.set()
                leave.wait(LONG)
                self.assertEqual(received, b"0123456789")
                kept.clear()

        with thread(look):
            entered.wait(LONG)
            if close_before:
                sender.close()
            try:
                with child(in_child, receiver, sender, other, kept):
                    pass
            finally:
                leave.set()
        self.assertEqual(receiver.recv_bytes(timeout=LONG), b"good")
        other.send("usable")
        self.assertEqual(receiver.recv(timeout=LONG), "usable")

    def test_a_child_lets_go_of_an_end_that_another_thread_was_using_in_place(self):
        before = memfds()

        def let_go(receiver, sender, other, kept):
            other.close()
            sender.close()
            receiver.close()
            self.assertEqual(memfds(), before)
            self.assertRaises(ValueError, lambda: kept[0][0])
            self.assertRaises(RuntimeError, kept[1].__exit__, None, None, None)
            kept.clear()
            self.assertEqual(memfds(), before)

        self.view_of_another_thread_in_a_child(let_go)
        self.view_of_another_thread_in_a_child(let_go, close_before=True)

    def test_the_memory_stays_in_a_child_while_something_points_into_a_view_of_another_thread(self):
        before = memfds()
        receiver, sender = Generic_Pipe(4096)
        sender.send_bytes(b"0123456789")
        parts = []
        entered, leave = threading.Event(), threading.Event()

        def look():
            with receiver.recv_view() as view:
                parts.append(view[4:6])
                entered.set()
                leave.wait(LONG)
                parts.clear()

        def use():
            sender.close()
            receiver.close()
            self.assertEqual(parts[0], b"45")
            self.assertGreater(memfds(), before)
            parts.clear()
            self.assertEqual(memfds(), before)

        with thread(look):
            entered.wait(LONG)
            with child(use):
                pass
            leave.set()
        self.assertFalse(receiver.poll())

    def test_a_killed_sender_leaves_no_part_of_its_message(self):
        receiver, sender = Generic_Pipe(5)
        pid = fork()
        if pid == 0:
            sender.send_bytes(b"x" * 1000000)
            os._exit(0)
        wait_until(receiver.poll)
        wait_until(lambda: asleep(pid))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        # What the dead sender left fills the buffer until a call receives.
        with thread(lambda: sender.send_bytes(b"whole")):
            self.assertEqual(receiver.recv_bytes(timeout=LONG), b"whole")

    def test_the_only_sender_is_killed_in_the_middle_of_a_message(self):
        receiver, sender = Generic_Pipe(5)
        pid = fork()
        if pid == 0:
            receiver.close()
            sender.send_bytes(b"whole")
            sender.send_bytes(bytes(1000000))
            os._exit(1)
        sender.close()
        self.assertEqual(receiver.recv_bytes(timeout=LONG), b"whole")
        wait_until(lambda: asleep(pid))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.assertRaises(EOFError, receiver.recv_bytes, timeout=LONG)

    def test_the_only_receiver_is_killed_in_the_middle_of_a_message(self):
        receiver, sender = Generic_Pipe(5)
        pid = fork()
        if pid == 0:
            sender.close()
            with receiver.recv_view():
                signal.pause()
            os._exit(1)
        receiver.close()
        me = threading.get_native_id()

        def kill():
            wait_asleep(me)
            os.kill(pid, signal.SIGKILL)

        sender.send_bytes(b"whole", timeout=LONG)
        with thread(kill):
            self.assertRaises(BrokenPipeError, sender.send_bytes, bytes(1000000), timeout=LONG)
        os.waitpid(pid, 0)
        self.assertRaises(BrokenPipeError, sender.send_bytes, b"x")

    def test_the_memory_goes_with_the_last_process_that_is_killed(self):
        before = memory_of_files()
        size = 256 << 20
        receiver, sender = Generic_Pipe(size)
        message = bytes(size // 4)
        pid = fork()
        if pid == 0:
            for _ in range(3):
                sender.send_bytes(message)
            signal.pause()
        for _ in range(3):
            wait_until(receiver.poll)
            self.assertEqual(len(receiver.recv_bytes()), len(message))
        self.assertGreater(memory_of_files() - before, size // 2)
        sender.close()
        receiver.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        wait_until(lambda: memory_of_files() - before < size // 4)

    def test_a_child_that_dies_with_the_turn_does_not_keep_it(self):
        receiver, sender = Generic_Pipe(4096)

        def die_sending():
            with sender.send_view(8):
                os.kill(os.getpid(), signal.SIGKILL)

        pid = fork()
        if pid == 0:
            die_sending()
        os.waitpid(pid, 0)
        sender.send("next")
        self.assertEqual(receiver.recv(timeout=LONG), "next")


if __name__ == "__main__":
    unittest.main()
