# SPDX-License-Identifier: MIT
"""Messages of bytes: their lengths, the objects that carry them, static pipes, and what is refused."""

import array
import errno
import multiprocessing
import resource
import unittest

from buffered_pipe import Generic_Pipe, Static_Pipe
from support import TestCase, child, thread

try:
    import numpy
except ImportError:
    numpy = None


class Bytes(TestCase):
    def test_messages_keep_their_borders_and_their_order(self):
        receiver, sender = Generic_Pipe(4096)
        messages = [b"", b"a", b"bc", b"", b"d" * 1000]
        for message in messages:
            sender.send_bytes(message)
        self.assertEqual([receiver.recv_bytes() for _ in messages], messages)

    def test_a_buffer_of_five_bytes_carries_messages_of_any_length(self):
        receiver, sender = Generic_Pipe(5)
        for length in (0, 1, 5, 6, 4096, 1 << 20):
            message = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
            with thread(sender.send_bytes, message):
                self.assertEqual(receiver.recv_bytes(), message)

    def test_bytes_like_objects_and_parts_of_them(self):
        receiver, sender = Generic_Pipe(4096)
        numbers = array.array("i", range(10))
        sender.send_bytes(numbers)
        self.assertEqual(receiver.recv_bytes(), numbers.tobytes())
        sender.send_bytes(memoryview(b"0123456789")[2:6])
        self.assertEqual(receiver.recv_bytes(), b"2345")
        sender.send_bytes(b"0123456789", 3)
        self.assertEqual(receiver.recv_bytes(), b"3456789")
        sender.send_bytes(bytearray(b"0123456789"), 3, 4)
        self.assertEqual(receiver.recv_bytes(), b"3456")

    def test_an_object_without_bytes_or_a_part_outside_of_it_is_not_sent(self):
        receiver, sender = Generic_Pipe(4096)
        self.assertRaises(TypeError, sender.send_bytes, "text")
        self.assertRaises(TypeError, sender.send_bytes, 5)
        self.assertRaises(TypeError, sender.send_bytes)
        for part in ((-1,), (11,), (0, -1), (0, 11), (5, 6), (1 << 70,), (0, 1 << 70)):
            self.assertRaises(ValueError, sender.send_bytes, b"0123456789", *part)
        self.assertRaises(TypeError, sender.send_bytes, b"", 0, 0, 0)
        self.assertRaises(TypeError, sender.send_bytes, b"", when=0)
        self.assertRaises(TypeError, sender.send_bytes, b"", buf=b"")
        self.assertFalse(receiver.poll())

    def test_none_is_not_a_number(self):
        receiver, sender = Generic_Pipe(4096)
        self.assertRaises(TypeError, sender.send_bytes, b"abc", None)
        message = sender.send_view(3)
        with message:
            self.assertRaises(TypeError, setattr, message, "size", None)
        self.assertRaises(TypeError, receiver.recv_bytes_into, bytearray(3), None)
        self.assertEqual(receiver.recv_bytes_into(bytearray(3), 0), 3)
        # But these arguments may be left out.
        sender.send_bytes(b"abc", 1, None)
        self.assertEqual(receiver.recv_bytes(None), b"bc")

    def test_numbers_beyond_any_size(self):
        receiver, sender = Generic_Pipe(4096)
        message = sender.send_view(3)
        for huge in (1 << 70, -1 << 70):
            self.assertRaises(ValueError, sender.send_bytes, b"abc", huge)
            self.assertRaises(ValueError, sender.send_bytes, b"abc", 0, huge)
            self.assertRaises(ValueError, receiver.recv_bytes_into, bytearray(3), huge)
            self.assertRaises(ValueError, setattr, message, "size", huge)
        self.assertRaisesRegex(ValueError, str(-1 << 70), receiver.recv_bytes, -1 << 70)
        sender.send_bytes(b"abc")
        self.assertEqual(receiver.recv_bytes(1 << 70), b"abc")

    def test_recv_bytes_into(self):
        receiver, sender = Generic_Pipe(4096)
        room = bytearray(10)
        sender.send_bytes(b"abc")
        self.assertEqual(receiver.recv_bytes_into(room, 2), 3)
        self.assertEqual(room, b"\0\0abc\0\0\0\0\0")
        sender.send_bytes(b"0123456789")
        self.assertEqual(receiver.recv_bytes_into(room), 10)
        self.assertEqual(room, b"0123456789")
        self.assertRaises(ValueError, receiver.recv_bytes_into, room, 11)
        self.assertRaises(ValueError, receiver.recv_bytes_into, room, -1)
        for unfit in (b"constant", memoryview(room).toreadonly(), memoryview(room)[::2], "text"):
            self.assertRaises(TypeError, receiver.recv_bytes_into, unfit)

    def test_recv_bytes_into_of_a_message_longer_than_the_ring(self):
        receiver, sender = Generic_Pipe(5)
        message = bytes(range(250)) * 1000
        room = bytearray(len(message))
        with thread(sender.send_bytes, message):
            self.assertEqual(receiver.recv_bytes_into(room), len(message))
        self.assertEqual(room, message)

    def test_a_message_too_long_for_the_room_comes_in_the_exception(self):
        receiver, sender = Generic_Pipe(4096)
        for message in (b"0123456789", b"x" * 100000):
            with thread(sender.send_bytes, message):
                with self.assertRaises(multiprocessing.BufferTooShort) as caught:
                    receiver.recv_bytes_into(bytearray(9))
            self.assertEqual(caught.exception.args[0], message)
        sender.send_bytes(b"next")
        self.assertEqual(receiver.recv_bytes(), b"next")

    def test_maxlength_leaves_a_longer_message_in_place(self):
        receiver, sender = Generic_Pipe(4096)
        sender.send_bytes(b"0123456789")
        self.assertRaises(OSError, receiver.recv_bytes, 9)
        self.assertRaises(ValueError, receiver.recv_bytes, -1)
        self.assertRaises(ValueError, receiver.recv_bytes, -1 << 70)
        self.assertRaisesRegex(TypeError, "maxlength must be an integer", receiver.recv_bytes, "9")
        self.assertEqual(receiver.recv_bytes(maxlength=10), b"0123456789")
        sender.send_bytes(b"short")
        self.assertEqual(receiver.recv_bytes(1 << 70), b"short")
        self.assertRaises(TimeoutError, receiver.recv_bytes, 10, timeout=0)
        self.assertRaises(TimeoutError, receiver.recv_bytes, 10, timeout=0.01)

    def test_a_message_stays_if_there_is_no_memory_for_it(self):
        size = 64 << 20  # malloc never has so much left
        receiver, sender = Generic_Pipe(size)
        message = bytes(range(256)) * (size // 256)
        sender.send_bytes(message)

        def receive():
            limits = resource.getrlimit(resource.RLIMIT_AS)
            for call in receiver.recv_bytes, receiver.recv:
                resource.setrlimit(resource.RLIMIT_AS, (size, limits[1]))
                try:
                    self.assertRaises(MemoryError, call)
                finally:
                    resource.setrlimit(resource.RLIMIT_AS, limits)
            self.assertEqual(receiver.recv_bytes(timeout=0), message)

        with child(receive):
            pass

    def test_a_buffer_in_another_order_is_sent_in_c_order(self):
        receiver, sender = Generic_Pipe(4096)
        every_other = memoryview(b"0123456789")[::2]
        sender.send_bytes(every_other)
        self.assertEqual(receiver.recv_bytes(), b"02468")
        sender.send_bytes(every_other, 1, 3)
        self.assertEqual(receiver.recv_bytes(), b"246")
        if numpy:
            array = numpy.arange(6.0).reshape(2, 3)
            sender.send_bytes(numpy.asfortranarray(array))
            self.assertEqual(receiver.recv_bytes(), array.tobytes())
        self.assertRaises(TypeError, sender.send_bytes, "no bytes")

    def test_duplex_ends_send_and_receive(self):
        one, other = Generic_Pipe(2048, duplex=True)
        one.send_bytes(b"ping")
        other.send("pong")
        self.assertEqual(other.recv_bytes(), b"ping")
        self.assertEqual(one.recv(), "pong")

    def test_the_wrong_direction_is_refused(self):
        receiver, sender = Generic_Pipe(2048)
        for call in (
            lambda: receiver.send(1),
            lambda: receiver.send_bytes(b""),
            lambda: receiver.send_view(1),
            sender.recv,
            sender.recv_bytes,
            sender.recv_view,
            sender.poll,
            sender.fileno,
            lambda: sender.recv_bytes(5),
            lambda: sender.recv_bytes_into(bytearray(1)),
        ):
            with self.assertRaises(OSError) as caught:
                call()
            self.assertEqual(caught.exception.errno, errno.EBADF)


class TooShort(TestCase):
    def test_another_receiver_may_take_the_message_that_is_too_long(self):
        receiver, sender = Generic_Pipe(5)
        count = 3000

        def send():
            for _ in range(count):
                sender.send_bytes(b"x" * 9000)
                sender.send_bytes(b"y")
            sender.shutdown()

        def receive_any():
            with self.assertRaises(EOFError):
                while True:
                    got.append(len(receiver.recv_bytes()))

        got = []
        buffer = bytearray(10)
        with thread(send), thread(receive_any):
            with self.assertRaises(EOFError):
                while True:
                    try:
                        got.append(receiver.recv_bytes_into(buffer))
                    except multiprocessing.BufferTooShort as error:
                        self.assertGreater(len(error.args[0]), len(buffer))
                        got.append(len(error.args[0]))
        self.assertEqual(sorted(got), [1] * count + [9000] * count)


class Reuse(TestCase):
    """The object of a message is used again for the next message if nothing else refers to it."""

    def test_messages_that_are_kept_stay_as_they_are(self):
        for length in (10, 600, 4096, 4097, 10000):
            receiver, sender = Generic_Pipe(1 << 16)
            kept, views = [], []
            for number in range(20):
                sender.send_bytes(bytes([number]) * length)
                message = receiver.recv_bytes()
                if number % 3 == 0:
                    kept.append((number, message))
                elif number % 3 == 1:
                    views.append((number, memoryview(message)))
                del message
            for number, message in kept + views:
                self.assertEqual(bytes(message), bytes([number]) * length)

    def test_each_message_has_its_own_hash(self):
        receiver, sender = Generic_Pipe(1 << 16)
        for number in range(20):
            sender.send_bytes(bytes([number]) * 1000)
            message = receiver.recv_bytes()
            self.assertEqual(hash(message), hash(bytes([number]) * 1000))
            del message

    def test_lengths_that_change(self):
        receiver, sender = Generic_Pipe(1 << 16)
        for length in (1000, 1000, 999, 1001, 1001, 4096, 4096, 4097, 0, 513, 513, 512, 513, 20000, 600, 600):
            sender.send_bytes(b"x" * length)
            self.assertEqual(receiver.recv_bytes(), b"x" * length)
            sender.send([b"y" * length])
            self.assertEqual(receiver.recv(), [b"y" * length])


class Static(TestCase):
    def test_every_call_takes_or_returns_exactly_one_object(self):
        receiver, sender = Static_Pipe(5, 3)
        sender.send(b"first")
        sender.send_bytes(bytearray(b"secnd"))
        sender.send(b"third")
        self.assertEqual(receiver.recv_bytes(), b"first")
        self.assertEqual(receiver.recv(), b"secnd")
        room = bytearray(5)
        receiver.recv_bytes_into(room)
        self.assertEqual(room, b"third")

    def test_another_length_is_refused_and_named(self):
        receiver, sender = Static_Pipe(5, 3)
        for message in (b"", b"four", b"sixsix", b"x" * 1000000):
            with self.assertRaisesRegex(ValueError, f"exactly 5 bytes, not {len(message)}"):
                sender.send(message)
            self.assertRaises(ValueError, sender.send_bytes, message, timeout=0)
        self.assertRaises(TypeError, sender.send, {"an": "object"})
        self.assertFalse(receiver.poll())

    def test_it_holds_as_many_as_it_was_asked_for(self):
        for size, count in ((1, 1), (32, 16), (100, 7), (5000, 3)):
            receiver, sender = Static_Pipe(size, count)
            for number in range(count):
                sender.send(bytes([number]) * size, timeout=0)
            self.assertRaises(TimeoutError, sender.send, bytes(size), timeout=0)
            self.assertRaises(TimeoutError, sender.send, bytes(size), timeout=0.01)
            for number in range(count):
                self.assertEqual(receiver.recv(), bytes([number]) * size)
            self.assertRaises(TimeoutError, receiver.recv, timeout=0)


if __name__ == "__main__":
    unittest.main()
