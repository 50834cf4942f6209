# SPDX-License-Identifier: MIT
"""What Pipe, Generic_Pipe and Static_Pipe make: sizes, names, repr() and descriptors."""

import errno
import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import unittest

import buffered_pipe
from buffered_pipe import End, Generic_Pipe, Pipe, Static_Pipe
from support import LONG, TestCase, child, descriptors, memfds

# Started without standard streams, so the only report is the exit status: the number of the step that failed.
WITHOUT_STREAMS = """
import fcntl, multiprocessing.resource_sharer, os, socket, threading
from buffered_pipe import End, JoinableQueue, Pipe, Queue, SimpleQueue, Static_Pipe, connect, listen

def check(step, *things):
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            continue
        os._exit(step)
    if any(thing.fileno() < 3 for thing in things):
        os._exit(step)

def above(low):
    # The program's own sockets must not be taken for those that it looks for.
    high = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3))
    low.close()
    return high

def use(step, receiver, sender):
    sender.send("hello")
    if receiver.recv(timeout=15) != "hello":
        os._exit(step)
    check(step, receiver)

check(10)
receiver, sender = Pipe(4096)
use(11, receiver, sender)
one, other = Pipe()
use(12, one, other)
static = Static_Pipe(64, 4)
check(13, static[0])
forked = receiver.fork()
use(14, forked, sender.fork())

queues = Queue(), JoinableQueue(), SimpleQueue()
check(20)
for queue in queues:
    queue.put("item")
    if queue.get() != "item":
        os._exit(21)
    check(22)

address = f"@bufpipe-test-streams-{os.getpid()}"
listener = listen(address)
check(30, listener)
callers = []
meeting = threading.Thread(target=lambda: callers.append(connect(address, timeout=15)))
meeting.start()
accepted = listener.accept(timeout=15)
meeting.join()
check(31, listener)
use(32, accepted, callers[0])

pair = socket.socketpair()
pair = [above(side) for side in pair[::-1]][::-1]
check(40)
sender.send_to(pair[0])
receiver.send_to(pair[0])
sender, receiver = End.recv_from(pair[1]), End.recv_from(pair[1])
use(41, receiver, sender)

other.send(sender)
arrived = one.recv(timeout=15)
multiprocessing.resource_sharer.stop()  # it has a socket of its own, with any number
use(50, receiver, arrived)
os._exit(0)
"""


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

    def test_it_takes_the_arguments_of_the_pipe_of_multiprocessing(self):
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

    def test_only_a_pipe_makes_ends(self):
        self.assertRaises(TypeError, End)
        self.assertRaises(TypeError, buffered_pipe.Listener)

    def test_nothing_is_left_when_both_ends_are_gone(self):
        before = memfds(), descriptors()
        receiver, sender = Generic_Pipe(1 << 20)
        self.assertGreater(memfds(), before[0])
        other = sender.fork()
        del receiver, sender, other
        self.assertEqual((memfds(), descriptors()), before)

    def test_repr_describes_the_end(self):
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

    def test_a_name_whose_code_closes_the_end(self):
        class Name(str):
            def __repr__(self):
                receiver.close()
                return "closed"

        receiver, sender = Generic_Pipe(4096, name=Name("numbers"))
        self.assertIs(type(receiver.name), str)
        self.assertIn("'numbers'", repr(receiver))
        self.assertFalse(receiver.closed)

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

    def test_a_program_without_standard_streams_never_gets_their_numbers(self):
        command = ["sh", "-c", 'exec "$0" -c "$1" 0<&- 1>&- 2>&-', sys.executable, WITHOUT_STREAMS]
        self.assertEqual(subprocess.run(command, timeout=3 * LONG).returncode, 0)

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


if __name__ == "__main__":
    unittest.main()
