# SPDX-License-Identifier: MIT
"""Messages in place, and what happens if something keeps pointing into them."""

import contextlib
import gc
import os
import random
import threading
import unittest
import weakref

import buffered_pipe
from buffered_pipe import Generic_Pipe, MessageView, Static_Pipe
from support import LONG, TestCase, child, fork, memfds, thread, wait_asleep, wait_until

try:
    import _testcapi
except ImportError:
    _testcapi = None


class Views(TestCase):
    def setUp(self):
        super().setUp()
        self.receiver, self.sender = Generic_Pipe(4096)

    def test_a_message_is_written_and_read_in_place(self):
        with self.sender.send_view(10) as view:
            self.assertIsInstance(view, memoryview)
            self.assertFalse(view.readonly)
            view[:] = b"0123456789"
        with self.receiver.recv_view() as view:
            self.assertTrue(view.readonly)
            self.assertEqual(view, b"0123456789")
        self.assertFalse(self.receiver.poll())
        self.assertRaises(ValueError, lambda: view[0])  # released

    def test_a_message_without_bytes(self):
        with self.sender.send_view(0):
            pass
        with self.receiver.recv_view() as view:
            self.assertEqual(len(view), 0)

    def test_it_mixes_with_the_other_calls(self):
        with self.sender.send_view(3) as view:
            view[:] = b"abc"
        self.assertEqual(self.receiver.recv_bytes(), b"abc")
        self.sender.send_bytes(b"def")
        with self.receiver.recv_view() as view:
            self.assertEqual(bytes(view), b"def")

    def test_the_message_may_become_shorter(self):
        message = self.sender.send_view(100)
        with message as view:
            self.assertEqual(message.size, 100)
            view[:4] = b"four"
            message.size = 4
            self.assertRaises(ValueError, setattr, message, "size", 101)
            self.assertRaises(ValueError, setattr, message, "size", -1)
        message = self.receiver.recv_view()
        with message as view:
            self.assertEqual((bytes(view), message.size), (b"four", 4))
            self.assertRaises(AttributeError, setattr, message, "size", 1)

    def test_static(self):
        receiver, sender = Static_Pipe(8, 2)
        message = sender.send_view()
        with message as view:
            view[:] = b"12345678"
            self.assertRaises(ValueError, setattr, message, "size", 7)
        self.assertEqual(receiver.recv(), b"12345678")
        with self.assertRaisesRegex(ValueError, "exactly 8 bytes, not 9"):
            sender.send_view(9).__enter__()

    def test_repr_describes_the_view(self):
        message = self.sender.send_view(10)
        self.assertRegex(repr(message), "^<buffered_pipe.MessageView sending 10 bytes, not entered, at 0x.*>$")
        with message:
            message.size = 4
            self.assertIn("sending 4 bytes, open", repr(message))
        self.assertIn("sending 4 bytes, left", repr(message))
        message = self.receiver.recv_view()
        self.assertIn("receiving, not entered", repr(message))
        with self.assertRaises(BufferError):
            with message as view:
                self.assertIn("receiving 4 bytes, open", repr(message))
                part = view[1:]
        self.assertIn("left, but in use", repr(message))
        del part
        self.assertIn("left, at", repr(message))

    def test_a_static_message_keeps_its_size_after_its_handle_is_closed(self):
        receiver, sender = Static_Pipe(8, 2)
        other = sender.fork()
        message = sender.send_view()
        with message as view:
            view[:] = b"12345678"
            sender.close()
            self.assertRaises(ValueError, setattr, message, "size", 7)
        other.send(b"87654321", timeout=LONG)
        self.assertEqual(receiver.recv(), b"12345678")
        self.assertEqual(receiver.recv(), b"87654321")

    @unittest.skipIf(_testcapi is None, "needs _testcapi")
    def test_a_view_can_be_entered_again_after_there_was_no_memory(self):
        def enter(message, start):
            _testcapi.set_nomemory(start, start + 2)
            try:
                message.__enter__()
            finally:
                _testcapi.remove_mem_hooks()

        failures = 0
        for start in range(4):
            self.sender.send_bytes(b"good")
            for message in (self.receiver.recv_view(), self.sender.send_view(4)):
                try:
                    enter(message, start)
                except MemoryError:
                    failures += 1
                    with message as view:
                        self.assertEqual(len(view), 4)
                        if not view.readonly:
                            view[:] = b"also"
                else:
                    message.__exit__(None, None, None)
            self.assertEqual(len(self.receiver.recv_bytes(timeout=0)), 4)
        self.assertGreaterEqual(failures, 2)
        self.sender.send_bytes(b"also")
        self.assertEqual(self.receiver.recv_bytes(timeout=0), b"also")

    def test_sizes_that_do_not_fit(self):
        self.assertRaises(TypeError, self.sender.send_view)
        self.assertRaises(ValueError, self.sender.send_view, -1)
        with self.assertRaisesRegex(ValueError, "do not fit"):
            self.sender.send_view(1 << 20).__enter__()
        self.sender.send_bytes(b"usable")
        self.assertEqual(self.receiver.recv_bytes(), b"usable")

    def test_a_message_that_is_longer_than_the_ring_is_shown_too(self):
        message = random.Random(1).randbytes(1000000)
        with thread(self.sender.send_bytes, message):
            shown = self.receiver.recv_view()
            with shown as view:
                self.assertEqual(view, message)
                self.assertEqual(shown.size, len(message))

    def test_an_exception_drops_what_was_not_sent(self):
        with self.assertRaises(KeyError):
            with self.sender.send_view(10) as view:
                view[0] = 1
                raise KeyError
        self.assertFalse(self.receiver.poll())
        self.sender.send_bytes(b"next")
        with self.assertRaises(KeyError):
            with self.receiver.recv_view():
                raise KeyError
        self.assertFalse(self.receiver.poll())

    def test_nobody_will_receive(self):
        message = self.sender.send_view(1)
        with self.assertRaises(BrokenPipeError):
            with message:
                self.receiver.close()
            while True:
                with self.sender.send_view(1, timeout=1):
                    pass

    def test_the_end_of_the_stream(self):
        self.sender.close()
        self.assertRaises(EOFError, self.receiver.recv_view().__enter__)

    def test_other_calls_of_the_thread_are_refused_meanwhile(self):
        with self.sender.send_view(1):
            self.assertRaises(RuntimeError, self.sender.send, 1)
            self.assertRaises(RuntimeError, self.sender.send_bytes, b"")
            self.assertRaises(RuntimeError, self.sender.send_view(1).__enter__)
            self.assertRaises(RuntimeError, self.sender.shutdown)
        with self.receiver.recv_view():
            self.assertRaises(RuntimeError, self.receiver.recv)
            self.assertRaises(RuntimeError, self.receiver.recv_bytes)
            self.assertRaises(RuntimeError, self.receiver.recv_bytes_into, bytearray(1))
            self.assertRaises(RuntimeError, self.receiver.recv_view().__enter__)

    def test_another_thread_waits_for_it(self):
        with self.sender.send_view(1):
            with thread(lambda: self.assertRaises(TimeoutError, self.sender.send, 1, timeout=0.1)):
                pass
        self.sender.send(2)
        self.receiver.recv_bytes()
        self.assertEqual(self.receiver.recv(), 2)

    def test_a_view_is_entered_and_left_once(self):
        message = self.sender.send_view(1)
        self.assertRaises(RuntimeError, message.__exit__, None, None, None)
        self.assertRaises(BufferError, memoryview, message)
        with message:
            self.assertRaises(RuntimeError, message.__enter__)
        self.assertRaises(RuntimeError, message.__enter__)
        self.assertRaises(RuntimeError, message.__exit__, None, None, None)
        self.assertRaises(TypeError, MessageView)

    def test_two_threads_do_not_enter_the_same_view(self):
        message = self.receiver.recv_view(timeout=LONG)

        def enter():
            with message as view:
                self.assertEqual(view, b"first")

        with thread(enter) as running:
            wait_asleep(running.native_id)
            self.assertRaisesRegex(RuntimeError, "once", message.__enter__)
            self.sender.send_bytes(b"first")
            self.sender.send_bytes(b"second")
        self.assertEqual(self.receiver.recv_bytes(timeout=LONG), b"second")

    def test_a_view_can_be_entered_again_after_a_timeout(self):
        message = self.receiver.recv_view(timeout=0.01)
        self.assertRaises(TimeoutError, message.__enter__)
        self.sender.send_bytes(b"late")
        with message as view:
            self.assertEqual(view, b"late")

    def test_what_points_into_a_sent_message_keeps_it_from_being_sent(self):
        with self.assertRaises(BufferError):
            with self.sender.send_view(10) as view:
                part = view[2:4]
        self.assertRaises(RuntimeError, self.sender.send, 1)
        part[0] = 1
        part.release()
        self.sender.send("next")
        self.assertEqual(self.receiver.recv(), "next")

    def test_what_points_into_a_received_message_keeps_it_in_place(self):
        self.sender.send_bytes(b"0123456789")
        with self.assertRaises(BufferError):
            with self.receiver.recv_view() as view:
                part = view[2:4]
        for _ in range(3):
            self.sender.send_bytes(b"x" * 1000)
        self.assertEqual(part, b"23")
        del view, part
        self.assertEqual(self.receiver.recv_bytes(), b"x" * 1000)

    def test_a_view_outlives_its_handle(self):
        before = memfds()
        receiver, sender = Generic_Pipe(4096)
        sender.send_bytes(b"0123456789")
        with receiver.recv_view() as view:
            receiver.close()
            del receiver, sender
            gc.collect()
            self.assertEqual(view, b"0123456789")
            self.assertGreater(memfds(), before)
        self.assertEqual(memfds(), before)

    def test_a_view_that_its_own_end_refers_to_is_collected(self):
        class Keeping(buffered_pipe.End):
            pass

        for enter in (False, True):
            before = memfds()
            receiver, sender = Keeping._pair(buffer_size=4096)
            sender.message = sender.send_view(5)
            if enter:
                sender.view = sender.message.__enter__()
            gone = weakref.ref(sender)
            del sender
            gc.collect()
            self.assertIsNone(gone())
            self.assertRaises(EOFError, receiver.recv, timeout=LONG)
            del receiver
            self.assertEqual(memfds(), before)

    def test_a_view_that_is_never_left_ends_with_its_last_reference(self):
        view = self.sender.send_view(10).__enter__()
        self.assertRaises(RuntimeError, self.sender.send, 1)
        del view
        gc.collect()
        self.sender.send("next")
        self.assertEqual(self.receiver.recv(), "next")

    def test_another_thread_cannot_leave_it(self):
        message = self.sender.send_view(1)
        entered, leave = threading.Event(), threading.Event()

        def enter():
            with message as view:
                entered.set()
                leave.wait(LONG)
                view[0] = 5

        with thread(enter):
            entered.wait(LONG)
            self.assertRaisesRegex(RuntimeError, "thread", message.__exit__, None, None, None)
            leave.set()
        # The view stays open for its owner.
        self.assertEqual(self.receiver.recv_bytes(timeout=LONG), b"\x05")

    def test_a_view_that_is_thrown_away_in_another_thread(self):
        self.sender.send_bytes(b"seen")
        self.sender.send_bytes(b"next")
        kept = []
        entered, thrown, called, end = (threading.Event() for _ in range(4))

        def work():
            kept.append(self.receiver.recv_view().__enter__())
            kept.append(self.sender.send_view(1).__enter__())
            entered.set()
            thrown.wait(LONG)
            # The next call of the owner that uses the end gives the lock back, whatever that call is.
            self.receiver.fileno()
            self.sender.writable
            called.set()
            end.wait(LONG)

        with thread(work):
            entered.wait(LONG)
            kept.clear()
            gc.collect()
            thrown.set()
            called.wait(LONG)
            self.assertEqual(self.receiver.recv_bytes(timeout=LONG), b"next")
            self.sender.send("usable", timeout=LONG)
            self.assertEqual(self.receiver.recv(timeout=LONG), "usable")
            end.set()

    def test_a_view_that_is_thrown_away_in_another_thread_keeps_no_memory(self):
        before = memfds()
        receiver, sender = Generic_Pipe(4096)
        kept = []
        with thread(lambda: kept.append(sender.send_view(1).__enter__())):
            pass
        kept.clear()
        gc.collect()
        sender.close()
        self.assertRaises(EOFError, receiver.recv, timeout=LONG)
        receiver.close()
        self.assertEqual(memfds(), before)

    def test_the_memory_stays_while_the_thread_that_entered_lives(self):
        """Another thread drops what points into the message, after the end was closed."""

        def receiving(receiver, sender):
            sender.send_bytes(b"0123456789")
            return receiver.recv_view()

        def sending(receiver, sender):
            return sender.send_view(10)

        def generating(receiver, sender):
            sender.send_bytes(b"0123456789")

            def generate():
                with receiver.recv_view() as view:
                    yield view[2:]

            return generate()

        def lose(make):
            receiver, sender = Generic_Pipe(1 << 20)
            message = make(receiver, sender)
            if make is generating:
                return [message, next(message)]
            kept = []
            with self.assertRaises(BufferError):
                with message as view:
                    kept.append(view[2:])
            del view
            return kept

        def drop(kept):
            kept.clear()
            gc.collect()

        def crash_or_not():
            others = [Generic_Pipe(1 << 20) for _ in range(2)]
            for make in receiving, sending, generating:
                kept = lose(make)
                gc.collect()
                with contextlib.redirect_stderr(None), thread(drop, kept):
                    pass  # a generator says that it cannot leave its view here
                for receiver, sender in others:
                    sender.send_bytes(bytes(200000))
                    with receiver.recv_view() as view:
                        self.assertEqual(len(view), 200000)
            del receiver, sender, view, others
            self.assertEqual(memfds(), before)

        before = memfds()
        with child(crash_or_not):  # if the memory were unmapped, the child would crash
            pass

    def entered_and_lost(self, make, then):
        """Starts a thread that has entered a view, of which nothing is left, and then runs 'then'."""
        kept = [make()]
        entered = threading.Event()

        def enter():
            kept.append(kept[0].__enter__())
            entered.set()
            then()

        context = thread(enter)
        running = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.assertTrue(entered.wait(LONG))
        kept.clear()
        gc.collect()
        return running

    def test_a_thread_gives_back_at_its_end_what_it_will_not_leave(self):
        before = memfds()
        for received in True, False:
            receiver, sender = Generic_Pipe(4096)
            both = memfds()
            sender.send("message")
            end = threading.Event()
            # It makes no call of the package any more.
            make = receiver.recv_view if received else lambda: sender.send_view(1)
            running = self.entered_and_lost(make, lambda: end.wait(LONG))
            other = (receiver, sender)[received]
            (receiver, sender)[not received].close()
            del receiver, sender, make
            self.assertEqual(memfds(), both)
            end.set()
            wait_until(lambda: not os.path.exists(f"/proc/self/task/{running.native_id}"))
            if received:
                self.assertRaises(BrokenPipeError, other.send, 1)
            else:
                self.assertEqual(other.recv(timeout=LONG), "message")
                self.assertRaises(EOFError, other.recv, timeout=LONG)
            other.close()
            wait_until(lambda: memfds() == before)

    def test_a_forked_child_does_not_wait_for_threads_that_it_does_not_have(self):
        receiver, sender = Generic_Pipe(4096)
        stopped, stop = Generic_Pipe(4096)
        end = threading.Event()
        self.entered_and_lost(lambda: sender.send_view(1), lambda: end.wait(LONG))
        sender.close()
        pid = fork()
        if pid == 0:
            stop.close()
            os._exit(0 if stopped.poll(LONG) else 1)
        stopped.close()
        end.set()
        # The child lives, but holds nothing of the end.
        self.assertRaises(EOFError, receiver.recv, timeout=LONG)
        stop.close()
        self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def test_a_thread_that_has_the_ident_of_the_dead_owner(self):
        kept, idents = [], []

        def enter(view):
            idents.append(threading.get_ident())
            kept.append((view, view.__enter__()))

        def leave():
            idents.append(threading.get_ident())
            self.assertRaisesRegex(RuntimeError, "thread", kept[0][0].__exit__, None, None, None)
            kept.clear()  # by the last reference
            gc.collect()

        for view in self.receiver.recv_view, lambda: self.sender.send_view(1):
            self.sender.send("message")
            with thread(enter, view()) as entering:
                pass
            wait_until(lambda: not os.path.exists(f"/proc/self/task/{entering.native_id}"))
            with thread(leave):
                pass
            self.assertEqual(self.receiver.recv(timeout=LONG), "message")
            self.sender.send("usable", timeout=LONG)
            self.assertEqual(self.receiver.recv(timeout=LONG), "usable")
        if idents[0] != idents[1] or idents[2] != idents[3]:
            self.skipTest("idents of threads are not used again at once")

    def test_a_forked_child_cannot_leave_it(self):
        with self.sender.send_view(4) as view:
            pid = fork()
            if pid == 0:
                status = 1
                try:
                    view[:] = b"evil"
                    view.release()
                except BaseException:
                    status = 2
                os._exit(status)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 1)
            view[:] = b"good"
        self.assertEqual(self.receiver.recv_bytes(), b"good")


if __name__ == "__main__":
    unittest.main()
