# SPDX-License-Identifier: MIT
"""Ends in other processes: every start method, through queues, after the parent let go, after a death."""

import asyncio
import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import pickle
import selectors
import signal
import threading
import unittest
from unittest import mock

import buffered_pipe
from buffered_pipe import Generic_Pipe, Static_Pipe
from support import (
    LONG,
    TestCase,
    asleep,
    child,
    descriptors,
    fork,
    memfds,
    memory_of_files,
    thread,
    wait_asleep,
    wait_until,
)


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


def send_numbers(sender, name, count):
    for number in range(count):
        sender.send((name, number))


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


def keep_for_ever(end):
    signal.pause()


def give_and_leave(sender):
    sender.send("sent before it left")


class StartMethod:
    """The same for each way to start a process."""

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

    def test_the_parent_lets_go_before_the_child_uses_its_ends(self):
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


class AfterFork(TestCase):
    def test_parent_and_child_use_the_same_ends(self):
        receiver, sender = Generic_Pipe(4096)
        count = 3000
        with child(send_numbers, sender, "child", count):
            with thread(send_numbers, sender, "parent", count):
                got = [receiver.recv(timeout=LONG) for _ in range(2 * count)]
        self.assertEqual(sorted(got), [(name, i) for name in ("child", "parent") for i in range(count)])

    def test_a_child_that_was_forked_while_threads_were_blocked_can_let_go(self):
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
        """Forks in a handler while recv() is blocked.  The child calls one there, the other after recv()."""
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
            kept.extend(bytearray(200) for _ in range(1000))  # where freed memory would be used again

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
        sender.send_bytes(b"whole")
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


class Pickling(TestCase):
    def test_a_plain_pickle_is_refused(self):
        receiver, sender = Generic_Pipe(4096)
        self.assertRaisesRegex(TypeError, "multiprocessing", pickle.dumps, sender)

    def test_an_end_in_a_queue_holds_one_descriptor_and_only_until_it_is_taken(self):
        receiver, sender = Generic_Pipe(4096)
        carrier_receiver, carrier = Generic_Pipe(4096)
        # The first one starts the thread that serves the descriptors.
        carrier.send(sender)
        carrier_receiver.recv().close()
        before = descriptors()
        for _ in range(3):
            carrier.send(sender)
        for _ in range(3):
            carrier_receiver.recv().close()
        wait_until(lambda: descriptors() == before)

    def test_a_process_that_never_takes_its_end_does_not_keep_it(self):
        def receive(receiver):
            self.assertRaises(EOFError, receiver.recv, timeout=LONG)

        def poll(receiver):
            wait_until(receiver.poll)

        def wait_for_many(receiver):
            self.assertEqual(buffered_pipe.wait([receiver], LONG), [receiver])

        def multiprocessing_waits(receiver):
            self.assertEqual(multiprocessing.connection.wait([receiver], LONG), [receiver])

        def asyncio_receives(receiver):
            with self.assertRaises(EOFError):
                asyncio.run(asyncio.wait_for(receiver.async_recv(), LONG))

        for notices in (receive, poll, wait_for_many, multiprocessing_waits, asyncio_receives):
            receiver, sender = Generic_Pipe(4096)
            start_and_kill(sender)
            notices(receiver)

    def test_who_waits_elsewhere_already_notices_as_well(self):
        for method in ("spawn", "forkserver"):
            receiver, sender = Generic_Pipe(4096)
            with selectors.DefaultSelector() as selector:
                selector.register(receiver, selectors.EVENT_READ)
                # Not LONG: after 5 seconds the descriptor has everybody look in any case.
                with thread(lambda: self.assertTrue(multiprocessing.connection.wait([receiver], 4))):
                    process = multiprocessing.get_context(method).Process(target=keep_for_ever, args=(sender,))
                    del sender
                    process.start()
                    process.kill()
                    self.assertTrue(selector.select(4))
            process.join()

    def test_a_process_that_never_takes_its_ends_leaves_nothing(self):
        before = count_all()
        ends = Generic_Pipe(4096)
        process = multiprocessing.get_context("spawn").Process(target=keep_for_ever, args=(ends,))
        del ends
        process.start()
        process.kill()
        process.join()
        process.close()
        wait_until(lambda: count_all() == before)

    def test_a_process_that_cannot_be_started_leaves_nothing(self):
        before = count_all()
        arguments = (*Generic_Pipe(4096), lambda: "no pickle")
        process = multiprocessing.get_context("spawn").Process(target=keep_for_ever, args=arguments)
        with self.assertRaises(Exception):
            process.start()
        del arguments, process
        wait_until(lambda: count_all() == before)

    def test_a_process_is_started_where_no_thread_can_be(self):
        before = memfds()
        receiver, sender = Generic_Pipe(4096)
        with mock.patch("threading.Thread.start", side_effect=RuntimeError):
            process = multiprocessing.get_context("spawn").Process(target=give_and_leave, args=(sender,))
            process.start()
        self.assertEqual(receiver.recv(timeout=LONG), "sent before it left")
        process.join()
        process.close()
        del receiver, sender, process
        wait_until(lambda: memfds() == before)

    def test_a_child_that_is_forked_meanwhile_does_not_keep_the_end(self):
        receiver, sender = Generic_Pipe(4096)

        def close_and_stay():
            sender.close()
            signal.pause()

        forks = ForksWhenPickled(close_and_stay)
        process = multiprocessing.get_context("spawn").Process(target=keep_for_ever, args=(sender, forks))
        process.start()
        process.kill()
        process.join()
        sender.close()
        self.assertRaises(EOFError, receiver.recv, timeout=LONG)
        os.kill(forks.pid, signal.SIGKILL)
        os.waitpid(forks.pid, 0)

    def test_a_loop_that_waits_already_notices_as_well(self):
        receiver, sender = Generic_Pipe(4096)

        async def receive():
            task = asyncio.create_task(receiver.async_recv())
            await asyncio.sleep(0)
            process = await asyncio.to_thread(start_and_kill, sender)
            with self.assertRaises(EOFError):
                await asyncio.wait_for(task, LONG)
            return process

        asyncio.run(receive())

    def test_threads_start_processes_side_by_side(self):
        receiver, sender = Generic_Pipe(4096)
        before = descriptors()
        count = 4
        started = []

        def start():
            for _ in range(3):
                started.append(start_and_kill(sender.fork()))

        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(thread(start))
        # Not in the threads: while one starts a process, multiprocessing looks at those of all others.
        for process in started:
            process.close()
        wait_until(lambda: not receiver.poll() and descriptors() == before)


def count_all():
    multiprocessing.resource_tracker.ensure_running()  # a process that is started has it stay
    return memfds(), descriptors(), threading.active_count()


class ForksWhenPickled:
    def __init__(self, in_child):
        self.in_child = in_child

    def __reduce__(self):
        self.pid = fork()
        if self.pid == 0:
            try:
                self.in_child()
            finally:
                os._exit(1)
        return int, ()


def start_and_kill(sender):
    """A process that hardly gets so far as to take its end."""
    process = multiprocessing.get_context("spawn").Process(target=keep_for_ever, args=(sender,))
    process.start()
    process.kill()
    process.join()
    sender.close()
    return process


if __name__ == "__main__":
    unittest.main()
