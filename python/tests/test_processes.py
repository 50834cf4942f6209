# SPDX-License-Identifier: MIT
"""Ends as arguments of processes: every start method, many at once, and after the parent has closed its ends."""

import gc
import multiprocessing
import signal
import unittest

from buffered_pipe import Generic_Pipe, Static_Pipe
from support import LONG, TestCase, descriptors, fork, give_and_leave, send_numbers, wait_until


def echo(receiver, sender, before=None):
    if before:
        before.wait()
    receiver.register()
    sender.register()
    try:
        while True:
            sender.send(receiver.recv())
    except EOFError:
        pass


def send_through(queue, sender):
    queue.get().send("through a queue")
    sender.send("done")


def wait_for_ever(end, started):
    started.set()
    signal.pause()


def register_and_echo(receiver, sender, registered, go):
    for end in (receiver, sender):
        end.register()
        end.register()
    registered.set()
    go.wait()
    sender.send(receiver.recv())


def receive_numbers(receiver, name, answers):
    answers.send((name, list(iter(receiver.recv, "enough"))))


class StartMethod:
    """The same tests for each start method."""

    def setUp(self):
        super().setUp()
        self.context = multiprocessing.get_context(self.method)

    def start(self, function, *args):
        process = self.context.Process(target=function, args=args)
        process.start()
        self.addCleanup(process.kill)
        return process

    def join(self, process):
        process.join(LONG)
        self.assertEqual(process.exitcode, 0)

    def test_ends_are_arguments(self):
        to_child = Generic_Pipe(2048)
        from_child = Generic_Pipe(2048)
        process = self.start(echo, to_child[0], from_child[1])
        to_child[1].send({"some": ["object"]})
        self.assertEqual(from_child[0].recv(timeout=LONG), {"some": ["object"]})
        process.kill()

    def test_a_static_end_is_an_argument(self):
        receiver, sender = Static_Pipe(32, 16)
        process = self.start(sender_of_bytes, sender)
        self.assertEqual(receiver.recv(timeout=LONG), b"x" * 32)
        self.join(process)

    def test_the_parent_closes_its_ends_before_the_child_uses_them(self):
        to_child = Generic_Pipe(2048)
        from_child = Generic_Pipe(2048)
        go = self.context.Event()
        other = to_child[1].fork()
        process = self.start(echo, to_child[0], from_child[1], go)
        to_child[0].close()
        from_child[1].close()
        to_child[1].close()
        go.set()
        other.send("hello")
        self.assertEqual(from_child[0].recv(timeout=LONG), "hello")
        process.kill()

    def test_the_parent_deletes_its_ends_when_the_child_has_registered(self):
        to_child = Generic_Pipe(2048)
        from_child = Generic_Pipe(2048)
        registered, go = self.context.Event(), self.context.Event()
        mine = to_child[1].fork(), from_child[0].fork()
        process = self.start(register_and_echo, to_child[0], from_child[1], registered, go)
        self.assertTrue(registered.wait(LONG))
        del to_child, from_child
        gc.collect()
        go.set()
        mine[0].send("hello")
        self.assertEqual(mine[1].recv(timeout=LONG), "hello")
        self.join(process)
        self.assertRaises(EOFError, mine[1].recv, timeout=LONG)
        with self.assertRaises(BrokenPipeError):
            while True:
                mine[0].send("nobody", timeout=LONG)

    def test_many_processes_receive_on_one_end(self):
        receiver, sender = Generic_Pipe(500)
        answer, answers = Generic_Pipe(2048)
        count, crew = 600, 3
        processes = [self.start(receive_numbers, receiver, name, answers) for name in range(crew)]
        receiver.close()
        for number in range(count):
            sender.send(number, timeout=LONG)
        for _ in range(crew):
            sender.send("enough", timeout=LONG)
        got = []
        for _ in range(crew):
            _, numbers = answer.recv(timeout=LONG)
            self.assertEqual(numbers, sorted(numbers))
            got += numbers
        self.assertEqual(sorted(got), list(range(count)))
        for process in processes:
            self.join(process)

    def test_many_processes_send_on_one_end(self):
        receiver, sender = Generic_Pipe(500)
        count = 300
        processes = [self.start(send_numbers, sender, name, count) for name in range(3)]
        sender.close()
        got = []
        with self.assertRaises(EOFError):
            while True:
                got.append(receiver.recv(timeout=LONG))
        self.assertEqual(sorted(got), [(name, i) for name in range(3) for i in range(count)])
        for name in range(3):
            mine = [i for each, i in got if each == name]
            self.assertEqual(mine, sorted(mine))
        for process in processes:
            self.join(process)

    def test_the_end_comes_when_the_last_process_is_killed(self):
        receiver, sender = Generic_Pipe(2048)
        started = self.context.Event()
        process = self.start(wait_for_ever, sender, started)
        sender.close()
        self.assertTrue(started.wait(LONG))
        self.assertFalse(receiver.poll())
        process.kill()
        self.assertRaises(EOFError, receiver.recv, timeout=LONG)

    def test_an_end_travels_through_a_queue(self):
        receiver, sender = Generic_Pipe(2048)
        queue = self.context.Queue()
        done = Generic_Pipe(2048)
        process = self.start(send_through, queue, done[1])
        queue.put(sender)
        self.assertEqual(receiver.recv(timeout=LONG), "through a queue")
        self.assertEqual(done[0].recv(timeout=LONG), "done")
        self.join(process)
        queue.close()
        queue.join_thread()

    def test_an_end_travels_through_a_pipe(self):
        carrier = Generic_Pipe(2048)
        answer = Generic_Pipe(2048)
        process = self.start(use_received, carrier[0], answer[1])
        receiver, sender = Generic_Pipe(2048)
        carrier[1].send(sender)
        self.assertEqual(receiver.recv(timeout=LONG), "through a pipe")
        self.assertEqual(answer[0].recv(timeout=LONG), "done")
        self.join(process)

    def test_starting_processes_leaves_no_descriptor(self):
        receiver, sender = Generic_Pipe(2048)

        def once():
            process = self.start(give_and_leave, sender)
            self.assertEqual(receiver.recv(timeout=LONG), "sent before it left")
            self.join(process)
            process.close()

        self._cleanups.clear()
        once()
        self._cleanups.clear()
        before = descriptors()
        once()
        once()
        self._cleanups.clear()
        wait_until(lambda: descriptors() == before)


def sender_of_bytes(sender):
    sender.register()
    sender.send(b"x" * 32)


def use_received(carrier, answer):
    carrier.recv().send("through a pipe")
    answer.send("done")


class Fork(StartMethod, TestCase):
    method = "fork"


class Spawn(StartMethod, TestCase):
    method = "spawn"


class Forkserver(StartMethod, TestCase):
    method = "forkserver"


if __name__ == "__main__":
    unittest.main()
