# SPDX-License-Identifier: MIT
"""Messages longer than the buffer: what interrupts them, and what they may cost."""

import contextlib
import functools
import gc
import itertools
import mmap
import multiprocessing
import os
import pickle
import random
import signal
import sys
import threading
import time
import unittest

from buffered_pipe import Generic_Pipe
from support import (
    LONG,
    TestCase,
    child,
    fork,
    memfds,
    peak_memory,
    stopped_in_the_middle,
    thread,
    wait_until,
)

MIB = 1 << 20


class Interruption(Exception):
    pass


def sparse(size):
    """Zeros that take no memory."""
    return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)))


def step(into, call):
    """No Python code runs between the call and the list, so no exception comes between them."""
    into.extend(itertools.starmap(call, [()]))


class Interrupted(TestCase):
    def interrupt_every(self, seconds):
        """A signal handler that raises, again and again, while step() runs."""

        def interrupt(number, frame):
            if frame.f_code is step.__code__:
                raise Interruption

        before = signal.signal(signal.SIGALRM, interrupt)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)

    def test_exceptions_lose_no_message(self):
        receiver, sender = Generic_Pipe(4096)
        count = 300

        def send():
            for number in range(count):
                sender.send_bytes(number.to_bytes(4, "little") * 50000)

        got = []
        interruptions = 0
        calls = [
            receiver.recv_bytes,
            functools.partial(receiver.recv_bytes, maxlength=1 << 30),
            functools.partial(receiver.recv_bytes, timeout=0.001),
        ]
        with child(send):
            self.interrupt_every(0.003)
            while len(got) < count:
                try:
                    step(got, calls[len(got) % 3])
                except TimeoutError:
                    pass
                except Interruption:
                    interruptions += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertEqual([message[:4] for message in got], [n.to_bytes(4, "little") for n in range(count)])
        self.assertTrue(all(message == message[:4] * 50000 for message in got))
        self.assertGreater(interruptions, 0)

    def test_a_call_of_any_kind_goes_on_with_it(self):
        receiver, sender = Generic_Pipe(4096)
        message = pickle.dumps(random.Random(1).randbytes(300000))

        def into():
            buffer = bytearray(400000)
            return bytes(buffer[: receiver.recv_bytes_into(buffer)])

        def view():
            with receiver.recv_view() as view:
                return bytes(view)

        def short():
            try:
                receiver.recv_bytes_into(bytearray(10))
            except multiprocessing.BufferTooShort as error:
                return error.args[0]

        calls = receiver.recv_bytes, lambda: pickle.dumps(receiver.recv()), into, view, short
        begin = (
            lambda: receiver.recv_bytes(timeout=0),
            lambda: receiver.recv(timeout=0),
            lambda: receiver.recv_bytes_into(bytearray(400000), timeout=0),
            lambda: receiver.recv_view(timeout=0).__enter__(),
        )
        for number, call in enumerate(calls * 4):
            with thread(sender.send_bytes, message):
                wait_until(receiver.poll)
                try:
                    got = begin[number % 4]()
                except TimeoutError:
                    got = call()
                    self.assertEqual(got, message)
                    self.assertIs(type(got), bytes)

    def test_several_threads_that_receive_long_messages_do_not_disturb_each_other(self):
        # Longer than the room that a call begins with, so that it takes the message in several steps.
        length, count, threads = 1100000, 150, 4
        receiver, sender = Generic_Pipe(1 << 19)
        got = []

        def send():
            receiver.close()
            for number in range(count):
                sender.send_bytes(bytes([number]) * length)

        def receive():
            with self.assertRaises(EOFError):
                while True:
                    message = receiver.recv_bytes()
                    got.append((message[0], message == message[:1] * length))

        # A thread whose message is complete then waits for the GIL, while others begin the next message.
        self.addCleanup(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(1e-5)
        with child(send), contextlib.ExitStack() as stack:
            sender.close()
            running = [stack.enter_context(thread(receive)) for _ in range(threads)]
            while any(each.is_alive() for each in running):
                for _ in range(1000):
                    pass
        self.assertEqual(sorted(got), [(number, True) for number in range(count)])

    def test_an_array_stays_writable(self):
        class Array:  # like that of numpy, it passes its data out of band
            def __init__(self, data):
                self.data = data

            def __reduce_ex__(self, protocol):
                return Array, (pickle.PickleBuffer(self.data),)

        globals()["Array"] = Array
        Array.__qualname__ = "Array"
        receiver, sender = Generic_Pipe(4096)
        for begin in lambda: receiver.recv_bytes(timeout=0), lambda: receiver.recv(timeout=0):
            with thread(sender.send, Array(bytearray(b"x" * 200000))):
                wait_until(receiver.poll)
                try:
                    begin()
                except TimeoutError:
                    got = receiver.recv()
                    self.assertEqual(bytes(got.data), b"x" * 200000)
                    self.assertFalse(memoryview(got.data).readonly)

    def test_another_thread_waits_until_its_owner_goes_on_or_ends(self):
        receiver, sender = Generic_Pipe(4096)
        message = bytes(100000)
        for goes_on in True, False:
            begun, go = threading.Event(), threading.Event()
            got = []

            def own():
                self.assertRaises(TimeoutError, receiver.recv_bytes, timeout=0)
                begun.set()
                go.wait(LONG)
                if goes_on:
                    got.append(receiver.recv_bytes())

            pid = stopped_in_the_middle(sender, message)
            with thread(own):
                begun.wait(LONG)
                self.assertRaises(TimeoutError, receiver.recv_bytes, timeout=0)
                self.assertRaises(TimeoutError, receiver.recv_bytes, timeout=0.05)
                os.kill(pid, signal.SIGCONT)
                go.set()
            self.assertEqual(got, [message] if goes_on else [])
            # A thread that ends in the middle loses the message: that is the documented exception.
            self.assertEqual(receiver.recv_bytes(timeout=LONG), b"next")
            self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def test_closing_drops_it(self):
        before = memfds()
        receiver, sender = Generic_Pipe(4096)
        pid = stopped_in_the_middle(sender, bytes(100000))
        sender.close()
        self.assertRaises(TimeoutError, receiver.recv_bytes, timeout=0)
        receiver.close()
        self.assertEqual(memfds(), before)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def test_a_child_does_not_have_it(self):
        receiver, sender = Generic_Pipe(4096)
        message = bytes(100000)
        stopped = stopped_in_the_middle(sender, message)
        self.assertRaises(TimeoutError, receiver.recv_bytes, timeout=0)

        def look():
            self.assertRaises(TimeoutError, receiver.recv_bytes, timeout=0.05)
            receiver.close()

        with child(look):
            pass
        os.kill(stopped, signal.SIGCONT)
        self.assertEqual(receiver.recv_bytes(timeout=LONG), message)
        self.assertEqual(receiver.recv_bytes(timeout=LONG), b"next")
        self.assertEqual(os.waitpid(stopped, 0)[1], 0)

    def test_nothing_is_received_of_a_message_that_was_given_up(self):
        receiver, sender = Generic_Pipe(4096)
        handle = sender.fork()
        with thread(lambda: self.assertRaisesRegex(OSError, "closed", handle.send_bytes, bytes(100000))):
            wait_until(receiver.poll)
            self.assertRaises(TimeoutError, receiver.recv_bytes, timeout=0)
            handle.close()
        self.assertRaises(TimeoutError, receiver.recv_bytes, timeout=0)
        sender.send_bytes(b"next")
        self.assertEqual(receiver.recv_bytes(timeout=LONG), b"next")

    def test_a_sender_that_is_interrupted_goes_on_or_leaves_nothing(self):
        receiver, sender = Generic_Pipe(4096)
        receiver.max_message = 1 << 40
        message = random.Random(1).randbytes(3 * MIB)
        got = []

        def receive():
            for _ in range(2):
                got.append(receiver.recv_bytes())

        before = signal.signal(signal.SIGALRM, lambda number, frame: None)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        with thread(receive):
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            sender.send_bytes(message)
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.interrupt_every(0.05)
            self.assertRaises(Interruption, step, [], functools.partial(sender.send_bytes, sparse(64 << 30)))
            signal.setitimer(signal.ITIMER_REAL, 0)
            sender.send_bytes(b"next")
        self.assertEqual(got, [message, b"next"])

    def test_many_pieces_of_all_lengths(self):
        receiver, sender = Generic_Pipe(4096)
        parts = [random.Random(n).randbytes(n * 997 % 20011) for n in range(200)]
        with thread(sender.send, [pickle.PickleBuffer(part) for part in parts]):
            self.assertEqual([bytes(part) for part in receiver.recv(timeout=LONG)], parts)


class Bounded(TestCase):
    def sending(self, sender, data):
        pid = fork()
        if pid == 0:
            sender.send_bytes(data)
            os._exit(0)
        self.addCleanup(os.waitpid, pid, 0)
        self.addCleanup(os.kill, pid, signal.SIGKILL)

    def test_a_message_costs_its_length_once(self):
        """Even if signals interrupt the call again and again."""
        before = signal.signal(signal.SIGALRM, lambda number, frame: None)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        receiver, sender = Generic_Pipe(65536)
        length = 192 * MIB
        self.sending(sender, sparse(length))
        gc.collect()
        start = peak_memory() and peak_memory()
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        try:
            got = receiver.recv_bytes()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertEqual(len(got), length)
        self.assertLess(peak_memory() - start, 1.4 * length)

    def test_memory_for_what_is_too_long_is_bounded(self):
        receiver, sender = Generic_Pipe(65536)
        self.sending(sender, sparse(512 * MIB))
        start = peak_memory() and peak_memory()
        for _ in range(2):
            with self.assertRaises(multiprocessing.BufferTooShort) as caught:
                receiver.recv_bytes_into(bytearray(10), timeout=LONG)
            self.assertIn("536870912 bytes stays", caught.exception.args[0])
        self.assertLess(peak_memory() - start, 64 * MIB)
        # It stays.
        self.assertEqual(len(receiver.recv_bytes(timeout=3 * LONG)), 512 * MIB)

    def test_what_is_too_long_comes_in_the_exception_up_to_16_mib(self):
        receiver, sender = Generic_Pipe(65536)
        for length in 100, 16 * MIB:
            message = random.Random(1).randbytes(length)
            with thread(sender.send_bytes, message):
                with self.assertRaises(multiprocessing.BufferTooShort) as caught:
                    receiver.recv_bytes_into(bytearray(99), timeout=LONG)
            self.assertEqual(caught.exception.args[0], message)
        receiver, sender = Generic_Pipe(32 * MIB)
        sender.send_bytes(bytes(16 * MIB + 1))
        with self.assertRaisesRegex(multiprocessing.BufferTooShort, "stays"):
            receiver.recv_bytes_into(bytearray(99))
        self.assertEqual(len(receiver.recv_bytes(timeout=0)), 16 * MIB + 1)

    def test_the_announced_length_grants_no_time(self):
        receiver, sender = Generic_Pipe(4096)
        receiver.max_message = 1 << 40
        pid = fork()
        if pid == 0:
            sender.send_bytes(sparse(64 << 30))
            os._exit(1)
        wait_until(receiver.poll)
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        begin = time.monotonic()
        for timeout in 0.1, 0:
            self.assertRaises(TimeoutError, receiver.recv, timeout=timeout)
        self.assertLess(time.monotonic() - begin, LONG / 2)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def test_an_end_has_a_limit(self):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") / 2
        receiver, sender = Generic_Pipe(4096)
        # The memory of a virtual machine may change meanwhile.
        self.assertAlmostEqual(receiver.max_message / memory, 1, delta=0.1)
        receiver, sender = Generic_Pipe(4096, max_message=100000)
        self.assertEqual((receiver.max_message, receiver.fork().max_message), (100000, 100000))
        with thread(sender.send_bytes, bytes(100001)):
            for receive in receiver.recv, receiver.recv_bytes, receiver.recv_view().__enter__:
                self.assertRaisesRegex(OSError, "at most 100000", receive)
            # If the caller has the memory, the length is no danger.
            self.assertEqual(receiver.recv_bytes_into(bytearray(200000)), 100001)
        with thread(sender.send_bytes, bytes(100001)):
            self.assertRaisesRegex(OSError, "at most 50000", receiver.recv_bytes, 50000)
            receiver.max_message += 1
            self.assertEqual(len(receiver.recv_bytes()), 100001)
        receiver.max_message = 0
        sender.send_bytes(bytes(4096))  # the limit does not count for a message that fits the buffer
        self.assertEqual(len(receiver.recv_bytes()), 4096)
        for wrong in -1, None, "1":
            with self.assertRaises((TypeError, ValueError)):
                receiver.max_message = wrong
        with self.assertRaises(AttributeError):
            del receiver.max_message


if __name__ == "__main__":
    unittest.main()
