# SPDX-License-Identifier: MIT
"""Objects: what multiprocessing can pickle, buffers out of band, and pickles that are bad."""

import array
import asyncio
import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import random
import socket
import struct
import sys
import unittest

import buffered_pipe
from buffered_pipe import End, Generic_Pipe, Static_Pipe
from support import LONG, TestCase, fork, peak_memory, thread

try:
    import numpy
except ImportError:
    numpy = None


RANDOM = random.Random(1)


class Plain:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == other.value


class Ending:
    def __reduce__(self):
        return raise_end, ()


class Unpicklable:
    def __reduce__(self):
        raise RuntimeError("not this one")


class Recursive:
    """Sends another object while it is pickled."""

    sender = None

    def __reduce__(self):
        self.sender.send("from inside")
        return str, ("outside",)


class Failing:
    def __reduce__(self):
        return raise_timeout, ()


def raise_end():
    raise EOFError("of the object")


def raise_timeout():
    raise TimeoutError("of the object")


class Objects(TestCase):
    def setUp(self):
        super().setUp()
        self.receiver, self.sender = Generic_Pipe(1 << 16)

    def through(self, obj):
        with thread(self.sender.send, obj):
            return self.receiver.recv(timeout=LONG)

    def test_objects_arrive_as_they_were_sent(self):
        for obj in (None, 1, "text", {"a": [1, 2.5, (b"x",)]}, {1, 2}, Plain({"x": Plain(1)}), range(5)):
            self.assertEqual(self.through(obj), obj)
        for length in (10, 1000, 100000, 5000000):
            data = RANDOM.randbytes(length)
            for obj in (data, bytearray(data), "x" * length):
                self.assertEqual(self.through([obj, obj]), [obj, obj])
        many = [Plain(str(i)) for i in range(20000)]
        self.assertEqual(self.through(many), many)

    def test_the_message_is_the_pickle(self):
        self.sender.send({"a": 1})
        self.assertEqual(pickle.loads(self.receiver.recv_bytes()), {"a": 1})
        self.sender.send_bytes(pickle.dumps({"b": 2}, protocol=0))
        self.assertEqual(self.receiver.recv(), {"b": 2})

    def test_one_object_does_not_refer_to_parts_of_another(self):
        shared = ["shared"]
        for _ in range(3):
            self.sender.send(shared)
            self.assertEqual(self.receiver.recv(), shared)

    def test_a_sent_object_is_released(self):
        import weakref

        obj = Plain(1)
        ref = weakref.ref(obj)
        self.sender.send(obj)
        del obj
        self.assertIsNone(ref())

    def test_what_cannot_be_pickled_is_not_sent(self):
        for obj, error in (
            (Unpicklable(), RuntimeError),
            ([1, "x" * 1000000, Unpicklable()], RuntimeError),
            (lambda: 0, (pickle.PicklingError, AttributeError)),
            ((i for i in ()), TypeError),
        ):
            self.assertRaises(error, self.sender.send, obj)
            self.assertFalse(self.receiver.poll())
        deep = []
        for _ in range(100000):
            deep = [deep]
        self.assertRaises(RecursionError, self.sender.send, deep)
        self.assertFalse(self.receiver.poll())
        self.sender.send("usable")
        self.assertEqual(self.receiver.recv(), "usable")
        while deep:
            deep = deep[0]

    def test_sending_while_pickling(self):
        Recursive.sender = self.sender
        self.sender.send([Recursive()])
        self.assertEqual(self.receiver.recv(), "from inside")
        self.assertEqual(self.receiver.recv(), ["outside"])

    def test_an_object_that_cannot_be_loaded_is_gone_and_the_pipe_goes_on(self):
        self.sender.send(Failing())
        self.sender.send("next")
        self.assertRaisesRegex(TimeoutError, "of the object", self.receiver.recv)
        self.assertEqual(self.receiver.recv(), "next")

    def test_a_truncated_or_garbled_pickle(self):
        whole = pickle.dumps({"key": ["value"] * 10})
        for damaged in (b"", whole[:-1], whole[:5], b"garbage", b"\x80\x05", RANDOM.randbytes(100), b"."):
            self.sender.send_bytes(damaged)
            with self.assertRaises(Exception):
                self.receiver.recv()
            self.sender.send_bytes(damaged)
            self.assertEqual(self.receiver.recv_bytes(), damaged)
        self.sender.send("usable")
        self.assertEqual(self.receiver.recv(), "usable")

    def test_a_pickle_that_ends_early_is_not_the_end_of_the_stream(self):
        ended = pickle.dumps(Ending())
        frame = struct.pack("<QQQ", 0x706675622D797000, 0, 0)
        for message in (b"", b"\x80\x05", pickle.dumps("text")[:-1], ended, frame):
            for receive in (self.receiver.recv, lambda: asyncio.run(self.receiver.async_recv())):
                self.sender.send_bytes(message)
                with self.assertRaises(pickle.UnpicklingError) as caught:
                    receive()
                if message == ended:
                    self.assertRegex(str(caught.exception), "of the object")
                if "truncated" not in str(caught.exception):
                    self.assertIsInstance(caught.exception.__cause__, EOFError)
        self.sender.close()
        self.assertRaises(EOFError, self.receiver.recv)

    def test_connections_and_reducers_of_multiprocessing(self):
        one, other = multiprocessing.Pipe(False)
        with thread(self.sender.send, one):
            received = self.receiver.recv()
        other.send("through the received connection")
        self.assertEqual(received.recv(), "through the received connection")
        # Registered after the first object was sent.
        multiprocessing.reduction.register(Unpicklable, lambda obj: (str, ("registered",)))
        try:
            self.assertEqual(self.through(Unpicklable()), "registered")
        finally:
            del multiprocessing.reduction.ForkingPickler._extra_reducers[Unpicklable]
        self.assertRaises(RuntimeError, self.sender.send, Unpicklable())


class OutOfBand(TestCase):
    def setUp(self):
        super().setUp()
        self.receiver, self.sender = Generic_Pipe(1 << 16)

    def through(self, obj):
        with thread(self.sender.send, obj):
            return self.receiver.recv(timeout=LONG)

    def test_buffers_arrive_as_views_that_can_be_written_if_they_could(self):
        for length in (0, 1, 1023, 1024, 1025, 5000, 100000, 3000000):
            data = RANDOM.randbytes(length)
            got = self.through([pickle.PickleBuffer(bytearray(data)), "x", pickle.PickleBuffer(data)])
            self.assertEqual(bytes(got[0]), data)
            self.assertEqual(got[1], "x")
            self.assertEqual(bytes(got[2]), data)
            if length:
                self.assertFalse(memoryview(got[0]).readonly)
                self.assertTrue(memoryview(got[2]).readonly)
                got[0][0] = 1

    def test_very_many_buffers(self):
        parts = [bytearray([i % 256]) * 1024 for i in range(3000)]
        got = self.through([pickle.PickleBuffer(part) for part in parts])
        self.assertEqual([bytes(each) for each in got], [bytes(each) for each in parts])

    def test_each_buffer_is_aligned(self):
        got = self.through([pickle.PickleBuffer(bytearray(1024 + i)) for i in range(20)])
        for each in got:
            address = ctypes.addressof(ctypes.c_char.from_buffer(each))
            self.assertEqual(address % 16, 0)

    def test_a_buffer_that_is_not_contiguous_is_refused(self):
        strided = memoryview(bytearray(100000))[::2]
        self.assertRaises((pickle.PicklingError, BufferError), self.sender.send, pickle.PickleBuffer(strided))
        self.assertFalse(self.receiver.poll())

    def test_the_buffers_are_released(self):
        data = bytearray(100000)
        with thread(self.sender.send, pickle.PickleBuffer(data)):
            got = self.receiver.recv()
        data.append(1)  # BufferError while something is exported
        del got

    def test_a_damaged_frame_is_an_error(self):
        magic = b"\0py-bufp"
        self.sender.send(pickle.PickleBuffer(bytearray(2000)))
        whole = self.receiver.recv_bytes()
        self.assertEqual(whole[:8], magic)
        pickled, buffers, length = struct.unpack_from("QQQ", whole, 8)
        self.assertEqual((buffers, length), (1, 2000))
        huge = (1 << 64) - 1
        heads = [
            (pickled, buffers, 2001),
            (pickled, buffers, huge),
            (pickled, buffers, 1 << 62),
            (pickled, huge, length),
            (pickled, 1 << 61, length),
            (pickled, 1 << 20, length),
            (huge, buffers, length),
            (huge - 7, buffers, length),
            (len(whole), buffers, length),
            (0, buffers, length),
            (0, 0, 0),
        ]
        for head in heads:
            self.sender.send_bytes(magic + struct.pack("QQQ", *head) + whole[32:])
            with self.assertRaises(Exception, msg=head):
                self.receiver.recv()
        for cut in (9, 23, 24, 31, 33, 40, 100):
            self.sender.send_bytes(whole[:cut])
            with self.assertRaises(Exception, msg=cut):
                self.receiver.recv()
        self.sender.send("usable")
        self.assertEqual(self.receiver.recv(), "usable")

    @unittest.skipUnless(numpy, "needs numpy")
    def test_numpy_arrays(self):
        for array_ in (
            numpy.arange(100000, dtype="f8").reshape(100, 1000),
            numpy.asfortranarray(numpy.arange(10000).reshape(100, 100)),
            numpy.arange(10000)[::3],
            numpy.zeros(0),
            numpy.array(5),
            numpy.array(["text", None], dtype=object),
        ):
            got = self.through({"array": array_})["array"]
            numpy.testing.assert_array_equal(got, array_)
            self.assertEqual(got.dtype, array_.dtype)
        big = numpy.arange(1 << 20, dtype="f8")
        got = self.through(big)
        self.assertTrue(got.flags.writeable)
        self.assertFalse(got.flags.owndata)  # it lies in the memory into which it was received

    @unittest.skipUnless(numpy, "needs numpy")
    def test_a_large_array_is_sent_without_a_copy_of_it(self):
        receiver, sender = Generic_Pipe(1 << 16)
        array_ = numpy.ones(8 << 20, dtype="f8")

        pid = fork()
        if pid == 0:
            sender.close()
            self.assertEqual(receiver.recv().nbytes, array_.nbytes)
            os._exit(0)
        receiver.close()
        peak_memory()
        before = peak_memory()
        sender.send(array_, timeout=LONG)
        self.assertLess(peak_memory() - before, array_.nbytes // 4)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)


class Leaks(TestCase):
    def check(self, once, rounds, slack=50):
        def measure(rounds):
            for _ in range(rounds):
                once()
            gc.collect()
            return sum(1 for _ in gc.get_objects()), sys.getallocatedblocks()

        # Other code may free memory at any time, but a leak would show each time.
        growths = []
        measure(rounds // 5)
        for _ in range(5):
            objects, before = measure(rounds // 3)
            later, after = measure(rounds)
            growths.append((later - objects, after - before))
            if later - objects < 10 and after - before < slack:
                return
        self.fail(f"objects and blocks grow by {growths}")

    def test_memory_stays_as_it_is_with_ends_of_every_kind(self):
        local, remote = socket.socketpair()
        self.addCleanup(local.close)
        self.addCleanup(remote.close)
        address = f"@buffered_pipe-leaks-{os.getpid()}"

        async def exchange(receiver, sender):
            await sender.async_send([1])
            await receiver.async_recv()

        def meet():
            buffered_pipe.connect(address).send("met")

        def once():
            static_receiver, static_sender = Static_Pipe(8, 4)
            static_sender.send(bytes(8))
            buffered_pipe.wait([static_receiver], 1)
            static_receiver.recv()
            one, other = Generic_Pipe(64, duplex=True)
            one.send("there")
            other.recv()
            with thread(other.send, array.array("d", bytes(4000))):  # longer than the buffer
                one.recv()
            asyncio.run(exchange(one, other))
            with buffered_pipe.listen(address) as listener, thread(meet):
                accepted = listener.accept(timeout=LONG)
                accepted.recv(timeout=LONG)
            static_sender.send_to(local)
            End.recv_from(remote).close()
            other.shutdown()
            with contextlib.suppress(EOFError):
                one.recv()

        # The caches of threads and loops take long to settle, but they keep nothing of each round.
        self.check(once, 600, slack=200)

    def test_memory_stays_as_it_is(self):
        receiver, sender = Generic_Pipe(1 << 16)
        data = bytearray(5000)
        obj = {"a": [1, 2, 3], "b": pickle.PickleBuffer(data), "c": "text" * 10}

        def once():
            sender.send(obj)
            receiver.recv()
            sender.send_bytes(b"x" * 1000)
            receiver.recv_bytes()
            sender.send_bytes(b"x" * 10)
            receiver.recv_bytes(100)
            sender.send_bytes(b"x" * 10)
            receiver.recv_bytes_into(bytearray(10))
            with sender.send_view(10) as view:
                view[0] = 1
            with receiver.recv_view() as view:
                bytes(view)
            receiver.poll()
            for fails in (
                lambda: receiver.recv(timeout=0),
                lambda: sender.recv(),
                lambda: sender.send(Unpicklable()),
                lambda: sender.send_bytes(b"", timeout=-1),
                lambda: sender.send_bytes(b"", 1),
                lambda: receiver.recv_bytes(-1),
                lambda: (sender.send_bytes(b""), receiver.recv()),
                lambda: buffered_pipe.connect("no address"),
                lambda: buffered_pipe.connect("/no/where"),
            ):
                try:
                    fails()
                except (OSError, ValueError, RuntimeError, pickle.UnpicklingError):
                    pass
            one, other = Generic_Pipe(100)
            other.fork().close()
            repr(one), repr(one.recv_view())
            one.fileno()

        self.check(once, 1000)


if __name__ == "__main__":
    unittest.main()
