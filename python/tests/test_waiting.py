# SPDX-License-Identifier: MIT
"""Blocking: timeouts, poll, waiting for many, and descriptors."""

import asyncio
import concurrent.futures
import contextlib
import decimal
import multiprocessing.connection
import os
import select
import selectors
import signal
import time
import unittest
import unittest.mock

import buffered_pipe
from buffered_pipe import Generic_Pipe, Static_Pipe
from support import LONG, TestCase, child, stopped_in_the_middle, thread, wait_until


class Timeouts(TestCase):
    def full_pipe(self):
        receiver, sender = Static_Pipe(8, 2)
        for _ in range(2):
            sender.send(bytes(8))
        return receiver, sender

    def blocked_calls(self):
        """Calls that all have to wait; each takes timeout=."""
        empty, self.kept = Generic_Pipe(2048)
        full_receiver, full = self.full_pipe()
        self.kept = self.kept, full_receiver
        yield empty.recv
        yield empty.recv_bytes
        yield lambda timeout: empty.recv_bytes(5, timeout=timeout)
        yield lambda timeout: empty.recv_bytes_into(bytearray(5), timeout=timeout)
        yield lambda timeout: empty.recv_view(timeout=timeout).__enter__()
        yield lambda timeout: full.send(bytes(8), timeout=timeout)
        yield lambda timeout: full.send_bytes(bytes(8), timeout=timeout)
        yield lambda timeout: full.send_view(timeout=timeout).__enter__()

    def test_the_time_is_up(self):
        for call in self.blocked_calls():
            self.assertRaises(TimeoutError, call, timeout=0)
            begin = time.monotonic()
            self.assertRaises(TimeoutError, call, timeout=0.25)
            self.assertGreaterEqual(time.monotonic() - begin, 0.25)

    def test_the_exception_says_which_end_waited(self):
        receiver, sender = Generic_Pipe(4096, name="numbers")
        pids = rf"'numbers' in process {os.getpid()}, whose peer was made by {os.getpid()}"
        for call in receiver.recv, receiver.recv_bytes, receiver.recv_view(timeout=0.01).__enter__:
            with self.assertRaisesRegex(TimeoutError, "no message arrived in time .*" + pids):
                call() if call.__name__ == "__enter__" else call(timeout=0.01)
        sender.send_bytes(bytes(4000))
        with self.assertRaisesRegex(TimeoutError, "no room in the pipe in time .*" + pids):
            sender.send_bytes(bytes(4000), timeout=0.01)
        # Programs try often, so a try must be quick, and names no end.
        with self.assertRaisesRegex(TimeoutError, "^no room in the pipe in time$"):
            sender.send_bytes(bytes(4000), timeout=0)

    def test_a_call_ends_soon_after_its_timeout(self):
        """Not after the fifth of a second that a long wait is divided into."""

        def excess(call):
            begin = time.monotonic()
            self.assertRaises(TimeoutError, call, timeout=0.01)
            return time.monotonic() - begin - 0.01

        for call in self.blocked_calls():
            # On a busy machine a single one may come late.
            self.assertTrue(any(excess(call) < 0.1 for _ in range(30)))

    def test_a_timeout_that_makes_no_sense(self):
        for call in self.blocked_calls():
            for timeout in (-1, -0.001, float("nan"), float("-inf")):
                self.assertRaises(ValueError, call, timeout=timeout)
            self.assertRaisesRegex(TypeError, "timeout must be", call, timeout="1")

    def test_very_long_timeouts(self):
        receiver, sender = Generic_Pipe(2048)
        for timeout in (None, 1e9, 1e300, float("inf")):
            with thread(lambda: sender.send(1)):
                self.assertEqual(receiver.recv(timeout=timeout), 1)

    def test_a_message_longer_than_the_ring_in_time_or_not(self):
        receiver, sender = Generic_Pipe(5)
        message = bytes(1000000)
        self.assertRaises(ValueError, sender.send_bytes, message, timeout=0)
        self.assertRaises(TimeoutError, sender.send_bytes, message, timeout=0.3)
        with thread(lambda: sender.send_bytes(b"next", timeout=LONG)):
            self.assertEqual(receiver.recv_bytes(), b"next")
        with thread(lambda: sender.send_bytes(message, timeout=LONG)):
            self.assertEqual(receiver.recv_bytes(timeout=LONG), message)

    def test_the_rest_of_a_long_message_that_does_not_come(self):
        receiver, sender = Generic_Pipe(5)
        message = bytes(100000)
        for receive in (
            lambda: receiver.recv(timeout=0),
            lambda: receiver.recv_bytes(timeout=0.01),
            lambda: receiver.recv_bytes(len(message), timeout=0),
            lambda: receiver.recv_bytes_into(bytearray(len(message)), timeout=0),
            lambda: receiver.recv_view(timeout=0).__enter__(),
        ):
            pid = stopped_in_the_middle(sender, message)
            self.assertRaisesRegex(TimeoutError, "of the 100000 bytes", receive)
            self.assertRaisesRegex(TimeoutError, "of the 100000 bytes", receive)
            self.assertTrue(receiver.poll())
            os.kill(pid, signal.SIGCONT)
            self.assertEqual(receiver.recv_bytes(timeout=LONG), message)
            self.assertEqual(receiver.recv_bytes(timeout=LONG), b"next")
            self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def test_a_long_message_that_takes_longer_than_a_try(self):
        receiver, sender = Generic_Pipe(5)
        message = bytes(range(256)) * 4000
        with thread(sender.send_bytes, message):
            wait_until(receiver.poll)
            while True:
                try:
                    got = receiver.recv_bytes(timeout=0)
                    break
                except TimeoutError:
                    receiver.poll(LONG)
        self.assertEqual(got, message)

    def test_poll(self):
        receiver, sender = Generic_Pipe(2048)
        self.assertIs(receiver.poll(), False)
        self.assertIs(receiver.poll(0.05), False)
        plain = multiprocessing.Pipe()
        # As in multiprocessing, what is negative is 0.
        for negative in -1, -0.5, float("-inf"):
            self.assertIs(receiver.poll(negative), False)
            self.assertEqual(buffered_pipe.wait([receiver], negative), [])
            self.assertEqual(buffered_pipe.wait([receiver, plain[0]], negative), [])
        self.assertRaises(ValueError, receiver.poll, float("nan"))
        self.assertRaises(TypeError, receiver.poll, "1")
        with thread(lambda: sender.send(1)):
            self.assertIs(receiver.poll(None), True)
        self.assertIs(receiver.poll(), True)
        self.assertEqual(receiver.recv(), 1)
        sender.close()
        self.assertIs(receiver.poll(LONG), True)


class Ready(TestCase):
    """An end is ready when there is a message or the stream has ended, and never otherwise."""

    def test_an_idle_end_is_quiet(self):
        quiet = 6  # seconds; longer than the interval of any look that is repeated

        async def by_asyncio(end):
            loop = asyncio.get_running_loop()
            called = asyncio.Event()
            loop.add_reader(end, called.set)
            try:
                await asyncio.wait_for(called.wait(), quiet)
            except asyncio.TimeoutError:
                return []
            finally:
                loop.remove_reader(end)
            return [end]

        def by_selector(end):
            with selectors.DefaultSelector() as selector:
                selector.register(end, selectors.EVENT_READ)
                return selector.select(quiet)

        plain = multiprocessing.Pipe()
        waits = (
            lambda end: multiprocessing.connection.wait([end], quiet),
            lambda end: buffered_pipe.wait([end], quiet),
            lambda end: buffered_pipe.wait([end, plain[0]], quiet),
            lambda end: select.select([end], [], [], quiet)[0],
            by_selector,
            lambda end: asyncio.run(by_asyncio(end)),
        )
        for number, answers in enumerate(self.in_threads(waits)):
            self.assertEqual(answers, [[], []], number)

    def in_threads(self, waits):
        """What each wait says of each end of a pipe that has just moved a message."""
        answers = [[None, None] for _ in waits]

        def run(number, side, end):
            answers[number][side] = list(waits[number](end))

        with contextlib.ExitStack() as stack:
            for number in range(len(waits)):
                ends = Generic_Pipe(4096, duplex=True)
                ends[0].send("something")
                self.assertEqual(ends[1].recv(), "something")
                for side in range(2):
                    stack.enter_context(thread(run, number, side, ends[side]))
        return answers

    def test_one_receiver_never_blocks_after_it(self):
        receiver, sender = Generic_Pipe(4096)

        def send():
            for number in range(3000):
                sender.send(number)
            sender.close()

        with child(send):
            sender.close()
            expected = 0
            while True:
                self.assertEqual(multiprocessing.connection.wait([receiver], LONG), [receiver])
                try:
                    self.assertEqual(receiver.recv(timeout=0), expected)
                except EOFError:
                    break
                expected += 1
        self.assertEqual(expected, 3000)

    def test_a_quick_writer_does_not_wait_for_a_slow_one(self):
        slow, slow_sender = Generic_Pipe(4096)
        quick, quick_sender = Generic_Pipe(4096)
        go, gone = Generic_Pipe(4096)

        def write():
            go.recv()
            quick_sender.send("quick")
            go.recv()
            slow_sender.send("slow")

        with child(write):
            gone.send(1)
            self.assertEqual(multiprocessing.connection.wait([slow, quick], LONG), [quick])
            self.assertEqual(quick.recv(timeout=0), "quick")
            gone.send(2)
            self.assertEqual(multiprocessing.connection.wait([slow, quick], LONG), [slow])
            self.assertEqual(slow.recv(timeout=0), "slow")


class Executor:
    """Waits for a pipe that is idle for long, as concurrent.futures does."""

    def test_it_goes_on_after_it_was_idle(self):
        class Context(type(multiprocessing.get_context(self.method))):
            def Pipe(self, duplex=True):
                return buffered_pipe.Pipe(duplex)

        with unittest.mock.patch("multiprocessing.connection.Pipe", buffered_pipe.Pipe):
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=Context()) as executor:
                self.assertEqual(executor.submit(pow, 3, 2).result(2 * LONG), 9)
                time.sleep(6)
                self.assertEqual(executor.submit(pow, 4, 2).result(2 * LONG), 16)


class ForkExecutor(Executor, TestCase):
    method = "fork"


class SpawnExecutor(Executor, TestCase):
    method = "spawn"


class ForkServerExecutor(Executor, TestCase):
    method = "forkserver"


class Many(TestCase):
    def pipes(self, count):
        return [Generic_Pipe(2048) for _ in range(count)]

    def test_it_returns_those_that_are_ready(self):
        pipes = self.pipes(5)
        receivers = [receiver for receiver, _ in pipes]
        self.assertEqual(buffered_pipe.wait(receivers, 0), [])
        self.assertEqual(buffered_pipe.wait(receivers, 0.05), [])
        pipes[1][1].send(1)
        pipes[3][1].close()
        self.assertEqual(buffered_pipe.wait(receivers), [receivers[1], receivers[3]])
        self.assertEqual(buffered_pipe.wait([], 0), [])

    def test_it_wakes(self):
        pipes = self.pipes(3)
        receivers = [receiver for receiver, _ in pipes]
        with thread(lambda: pipes[2][1].send(1)):
            self.assertEqual(buffered_pipe.wait(receivers, LONG), [receivers[2]])

    def test_an_end_that_sends_is_ready_when_there_is_room(self):
        receiver, sender = Static_Pipe(8, 4)
        self.assertEqual(buffered_pipe.wait([sender], 0), [sender])
        for _ in range(4):
            sender.send(bytes(8))
        self.assertEqual(buffered_pipe.wait([sender], 0), [])
        with thread(lambda: [receiver.recv() for _ in range(4)]):
            self.assertEqual(buffered_pipe.wait([sender], LONG), [sender])

    def test_a_timeout_that_makes_no_sense(self):
        receiver, sender = Generic_Pipe(2048)
        plain, plain_sender = multiprocessing.Pipe(False)
        for objects in ([], [receiver], [sender], [receiver, plain]):
            self.assertRaisesRegex(ValueError, "at least 0", buffered_pipe.wait, objects, float("nan"))
            self.assertRaisesRegex(TypeError, "timeout must be", buffered_pipe.wait, objects, "1")
        for objects in ([], [receiver], [receiver, plain]):
            self.assertEqual(buffered_pipe.wait(objects, decimal.Decimal("0.01")), [])

    def test_two_handles_of_one_end(self):
        receiver, sender = Generic_Pipe(2048)
        other = receiver.fork()
        sender.send(1)
        self.assertEqual(buffered_pipe.wait([receiver, other], LONG), [receiver, other])

    def test_among_other_things(self):
        receiver, sender = Generic_Pipe(2048)
        read, write = os.pipe()
        plain, other = multiprocessing.Pipe(False)
        try:
            self.assertEqual(buffered_pipe.wait([receiver, read, plain], 0.01), [])
            sender.send(1)
            self.assertEqual(buffered_pipe.wait([receiver, read, plain], LONG), [receiver])
            receiver.recv()
            other.send(1)
            self.assertEqual(buffered_pipe.wait([receiver, read, plain], LONG), [plain])
            os.write(write, b"x")
            self.assertEqual(set(buffered_pipe.wait([receiver, read, plain], LONG)), {plain, read})
            self.assertRaises(ValueError, buffered_pipe.wait, [receiver, read], float("nan"))
        finally:
            os.close(read)
            os.close(write)

    def test_objects_with_the_same_descriptor_are_all_returned(self):
        receiver, sender = Generic_Pipe(2048)
        handle = receiver.fork()
        plain, other = multiprocessing.Pipe(False)
        objects = [receiver, plain, handle, plain.fileno(), receiver]
        self.assertEqual(buffered_pipe.wait(iter(objects), 0), [])
        sender.send(1)
        self.assertEqual(buffered_pipe.wait(objects, LONG), [receiver, handle, receiver])
        other.send(1)
        self.assertEqual(buffered_pipe.wait(iter(objects), LONG), objects)
        receiver.recv()
        self.assertEqual(buffered_pipe.wait(objects, LONG), [plain, plain.fileno()])

    def test_what_cannot_be_waited_for(self):
        receiver, sender = Generic_Pipe(2048)
        self.assertRaises(ValueError, buffered_pipe.wait, [receiver], float("nan"))
        self.assertRaises((TypeError, ValueError), buffered_pipe.wait, [receiver, "no"], 0)
        self.assertRaises(TypeError, buffered_pipe.wait, 5)


class Descriptors(TestCase):
    def test_multiprocessing_waits_for_one_message_after_the_other(self):
        pipes = [Generic_Pipe(2048) for _ in range(3)]
        receivers = [receiver for receiver, _ in pipes]
        wait = multiprocessing.connection.wait
        self.assertEqual(wait(receivers, 0), [])
        for _ in range(5):
            for receiver, sender in pipes:
                sender.send(1)
                sender.send(2)
                self.assertEqual(wait(receivers, LONG), [receiver])
                self.assertEqual(receiver.recv(), 1)
                self.assertEqual(wait(receivers, LONG), [receiver])
                self.assertEqual(receiver.recv_bytes()[:1], b"\x80")
                self.assertEqual(wait(receivers, 0), [])
        pipes[0][1].close()
        self.assertEqual(wait(receivers, LONG), [receivers[0]])

    def test_every_way_to_receive_quiets_it(self):
        receiver, sender = Generic_Pipe(4096)
        wait = multiprocessing.connection.wait
        receiver.fileno()

        def view():
            with receiver.recv_view():
                pass

        for receive in (
            receiver.recv,
            receiver.recv_bytes,
            lambda: receiver.recv_bytes(1000),
            lambda: receiver.recv_bytes_into(bytearray(1000)),
            view,
        ):
            for _ in range(3):
                sender.send(1)
                self.assertEqual(wait([receiver], LONG), [receiver])
                receive()
                self.assertEqual(wait([receiver], 0), [])

    def test_a_message_longer_than_the_ring_quiets_it_as_well(self):
        receiver, sender = Generic_Pipe(4096)
        wait = multiprocessing.connection.wait
        message = bytes(100000)
        receiver.fileno()

        def view():
            with receiver.recv_view():
                pass

        def too_short():
            with self.assertRaises(multiprocessing.BufferTooShort):
                receiver.recv_bytes_into(bytearray(1))

        for receive in (
            receiver.recv_bytes,
            lambda: receiver.recv_bytes(len(message)),
            lambda: receiver.recv_bytes_into(bytearray(len(message))),
            too_short,
            view,
        ):
            with thread(sender.send_bytes, message):
                self.assertEqual(wait([receiver], LONG), [receiver])
                receive()
            self.assertEqual(wait([receiver], 0), [])

    def test_selectors(self):
        receiver, sender = Generic_Pipe(2048)
        with selectors.DefaultSelector() as selector:
            selector.register(receiver, selectors.EVENT_READ)
            self.assertEqual(selector.select(0), [])
            with thread(lambda: sender.send("hello")):
                [(key, events)] = selector.select(LONG)
            self.assertIs(key.fileobj, receiver)
            self.assertEqual(receiver.recv(), "hello")
            self.assertEqual(selector.select(0), [])
        self.assertEqual(receiver.fileno(), receiver.fork().fileno())

    def test_a_stream_by_descriptor(self):
        receiver, sender = Generic_Pipe(2048)
        receiver.fileno()
        count = 3000

        def send():
            for number in range(count):
                sender.send(number)

        with thread(send):
            for number in range(count):
                self.assertEqual(multiprocessing.connection.wait([receiver], LONG), [receiver])
                self.assertEqual(receiver.recv(timeout=0), number)


if __name__ == "__main__":
    unittest.main()
