# SPDX-License-Identifier: MIT
"""The interface that programs had before: two kinds of pipe, bytes, handles, and what is refused."""

import array
import errno
import multiprocessing
import os
import resource
import socket
import threading
import unittest

import buffered_pipe
try:
    import numpy
except ImportError:
    numpy = None

from buffered_pipe import End, Generic_Pipe, Pipe, Static_Pipe
from support import LONG, TestCase, child, descriptors, memfds, thread


class Creation(TestCase):
    def test_pipe_is_the_generic_pipe(self):
        self.assertIs(Pipe, Generic_Pipe)

    def test_the_tuning_arguments_are_taken_by_position_and_by_name(self):
        for receiver, sender in (
            Generic_Pipe(2048, 64, 16, 16, 0.1, False),
            Generic_Pipe(buffer_size=2048, minimum_write=1, SMT_recv=2, SMT_send=3, polling=0, duplex=False),
            Static_Pipe(2, 16, 16, 16, 0.1, False),
            Static_Pipe(object_size=2, object_count=16, SMT_recv=2, SMT_send=3, polling=0, duplex=False),
        ):
            sender.send_bytes(b"hi")
            self.assertEqual(receiver.recv_bytes(), b"hi")

    def test_sizes_that_make_no_sense_are_refused(self):
        for arguments in ((0,), (-1,)):
            self.assertRaises(ValueError, Generic_Pipe, *arguments)
        for arguments in ((0, 1), (1, 0), (-1, 4)):
            self.assertRaises(ValueError, Static_Pipe, *arguments)
        self.assertRaises(TypeError, Generic_Pipe, "2048")
        self.assertRaises(TypeError, Generic_Pipe, 2048.0)
        self.assertRaises(TypeError, Generic_Pipe, 2048, polling="often")
        self.assertRaisesRegex(ValueError, "large", Generic_Pipe, 1 << 60)
        self.assertRaisesRegex(ValueError, "large", Static_Pipe, 1 << 40, 1 << 40)
        for size in (1 << 41, 1 << 70):
            self.assertRaisesRegex(ValueError, "large", Generic_Pipe, size)
            self.assertRaisesRegex(ValueError, "large", Static_Pipe, size, 1)
            self.assertRaisesRegex(ValueError, "large", Static_Pipe, 1, size)
        self.assertRaisesRegex(ValueError, f"buffer_size.*{-1 << 70}", Generic_Pipe, -1 << 70)
        for size in ("a", 5.0, []):
            self.assertRaisesRegex(TypeError, "buffer_size must be an integer", Pipe, size)
            self.assertRaisesRegex(TypeError, "object_count must be an integer", Static_Pipe, 1, size)

    def test_it_is_called_as_the_pipe_of_multiprocessing(self):
        for arguments, options, duplex in (
            ((), {}, True),
            ((True,), {}, True),
            ((False,), {}, False),
            ((), {"duplex": True}, True),
            ((), {"duplex": False}, False),
            ((4096,), {}, False),
            ((1,), {}, False),
            ((4096,), {"duplex": True}, True),
            ((), {"polling": 1}, True),
        ):
            one, other = Pipe(*arguments, **options)
            self.assertEqual((one.readable, one.writable), (True, duplex))
            self.assertEqual((other.readable, other.writable), (duplex, True))
            if not arguments or isinstance(arguments[0], bool):
                self.assertGreaterEqual(one.buffer_size, 65536)
            other.send("hello")
            self.assertEqual(one.recv(), "hello")
        self.assertRaises(TypeError, Pipe, True, duplex=True)

    def test_an_end_that_only_sends_has_no_descriptor(self):
        receiver, sender = Pipe(100)
        self.assertRaises(OSError, sender.fileno)
        self.assertGreaterEqual(receiver.fileno(), 0)

    def test_an_end_is_made_by_a_pipe_only(self):
        self.assertRaises(TypeError, End)
        self.assertRaises(TypeError, buffered_pipe.Listener)

    def test_nothing_is_left_when_both_ends_are_gone(self):
        before = memfds(), descriptors()
        receiver, sender = Generic_Pipe(1 << 20)
        self.assertGreater(memfds(), before[0])
        other = sender.fork()
        del receiver, sender, other
        self.assertEqual((memfds(), descriptors()), before)

    def test_repr_says_what_it_is(self):
        receiver, sender = Static_Pipe(32, 16)
        self.assertIn("receiving, 16 objects of 32 bytes", repr(receiver))
        self.assertIn("sending", repr(sender))
        self.assertIn("duplex, buffer of", repr(Generic_Pipe(100, duplex=True)[0]))
        sender.close()
        self.assertIn("closed", repr(sender))
        for end in receiver, sender:
            self.assertRegex(repr(end), "^<buffered_pipe.End ")

    def test_a_name_is_shown(self):
        receiver, sender = Generic_Pipe(4096, name="numbers")
        self.assertEqual((receiver.name, sender.fork().name, Generic_Pipe(4096)[0].name), ("numbers", "numbers", None))
        sender.send_bytes(b"1234")
        for end in receiver, sender:
            self.assertRegex(repr(end), rf"End 'numbers' .*, 16 bytes in use, peer {os.getpid()}, at")
        receiver.recv_bytes()
        self.assertIn(", 0 bytes in use", repr(sender))
        sender.name = "others"
        sender.close()
        with self.assertRaisesRegex(EOFError, f"'numbers' in process {os.getpid()}, whose peer was made by"):
            receiver.recv(timeout=LONG)
        with self.assertRaises(TypeError):
            receiver.name = 5
        receiver.name = None
        with self.assertRaisesRegex(EOFError, f"\\(process {os.getpid()}, whose peer"):
            receiver.recv()
        with self.assertRaises(OSError):
            sender.name

    def test_sizes_beyond_reason_are_refused(self):
        for size in 1 << 40, 1 << 80:
            self.assertRaisesRegex(ValueError, "memory of this machine|cannot be that large", Generic_Pipe, size)
        for size, count in (1 << 30, 1 << 20), (1 << 50, 1 << 50), (1 << 62, 8), (1 << 45, 1):
            self.assertRaisesRegex(ValueError, "memory of this machine", Static_Pipe, size, count)
        self.assertRaisesRegex(ValueError, "memory", buffered_pipe.connect, "@nobody", buffer_size=1 << 40)

    def test_an_end_with_one_descriptor(self):
        before = descriptors()
        receiver, sender = Generic_Pipe(4096, handover=False)
        self.assertEqual(descriptors(), before + 2)
        with child(sender.send, "from a child"):
            self.assertEqual(receiver.recv(timeout=LONG), "from a child")
        process = multiprocessing.get_context("spawn").Process(target=print, args=(sender,))
        self.assertRaisesRegex(OSError, "handover=False", process.start)
        static, static_sender = Static_Pipe(8, 2, handover=False)
        del receiver, sender, static, static_sender, process
        self.assertLessEqual(descriptors(), before + 1)  # a resource tracker may have come

    def test_without_descriptors_it_says_what_to_do(self):
        def open_until_refused():
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
            with self.assertRaisesRegex(OSError, "six here.*may have 64 .ulimit -n") as caught:
                pipes = []
                while True:
                    pipes.append(Generic_Pipe(4096))
            self.assertEqual(caught.exception.errno, errno.EMFILE)

        with child(open_until_refused):
            pass

    def test_repr_of_a_class_with_a_strange_name(self):
        class Strange(type):
            def __getattribute__(cls, name):
                return 1.5 if name == "__qualname__" else super().__getattribute__(name)

        class Odd(End, metaclass=Strange):
            pass

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            Generic_Pipe(2048)[1].send_to(ours)
            self.assertIn(".1.5 sending", repr(Odd.recv_from(theirs)))

    def test_properties(self):
        receiver, sender = Static_Pipe(32, 16)
        self.assertEqual((receiver.readable, receiver.writable), (True, False))
        self.assertEqual((sender.readable, sender.writable), (False, True))
        self.assertEqual((sender.object_size, sender.object_count, sender.buffer_size), (32, 16, 0))
        both, _ = Generic_Pipe(5000, duplex=True)
        self.assertEqual((both.readable, both.writable), (True, True))
        self.assertGreaterEqual(both.buffer_size, 5000)
        import os

        self.assertEqual(both.peer, (os.getpid(), os.getuid(), os.getgid()))


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

    def test_what_is_no_bytes_or_no_part_of_them_is_not_sent(self):
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

    def test_none_is_no_number(self):
        receiver, sender = Generic_Pipe(4096)
        self.assertRaises(TypeError, sender.send_bytes, b"abc", None)
        message = sender.send_view(3)
        with message:
            self.assertRaises(TypeError, setattr, message, "size", None)
        self.assertRaises(TypeError, receiver.recv_bytes_into, bytearray(3), None)
        self.assertEqual(receiver.recv_bytes_into(bytearray(3), 0), 3)
        # But these may be left away.
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

    def test_a_message_that_there_is_no_memory_for_stays(self):
        size = 64 << 20  # never from what malloc has
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

    def test_what_lies_in_another_order_is_sent_in_that_of_c(self):
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
    """The memory of a message that nobody has any more serves the next one."""

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
    def test_every_way_takes_and_gives_exactly_one_object(self):
        receiver, sender = Static_Pipe(5, 3)
        sender.send(b"first")
        sender.send_bytes(bytearray(b"secnd"))
        sender.send(b"third")
        self.assertEqual(receiver.recv_bytes(), b"first")
        self.assertEqual(receiver.recv(), b"secnd")
        room = bytearray(5)
        receiver.recv_bytes_into(room)
        self.assertEqual(room, b"third")

    def test_another_length_is_refused_and_said(self):
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
