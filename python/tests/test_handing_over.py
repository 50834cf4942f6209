# SPDX-License-Identifier: MIT
"""Ends that multiprocessing passes on: what holds them on the way, and what is left if no process takes them."""

import asyncio
import contextlib
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
from buffered_pipe import Generic_Pipe
from support import LONG, TestCase, child, descriptors, fork, give_and_leave, memfds, thread, wait_until


def keep_for_ever(end):
    signal.pause()


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

    def test_nothing_is_printed_into_an_end_where_the_standard_streams_are_closed(self):
        def use():
            for fd in range(3):
                os.close(fd)
            receiver, sender = Generic_Pipe(4096)
            parcel = sender._parcel()
            self.assertGreater(parcel, 2)
            loop = asyncio.new_event_loop()
            self.assertGreater(receiver.fileno(), 2)

            async def receive():
                waiting = asyncio.ensure_future(receiver.async_recv())
                await asyncio.sleep(0)
                watched = set(loop._selector.get_map()) - {loop._ssock.fileno()}
                self.assertTrue(watched)
                self.assertGreater(min(watched), 2)
                sender.send("come")
                return await waiting

            self.assertEqual(loop.run_until_complete(receive()), "come")

        with child(use):
            pass

    def test_a_waiter_notices_although_the_process_never_takes_its_end(self):
        for method in ("spawn", "forkserver"):
            receiver, sender = Generic_Pipe(4096)
            with selectors.DefaultSelector() as selector:
                selector.register(receiver, selectors.EVENT_READ)
                # Not LONG: after 5 seconds all waiters look in any case.
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
        # Not in the threads: while a thread starts a process, multiprocessing looks at the processes of all threads.
        for process in started:
            process.close()
        wait_until(lambda: not receiver.poll() and descriptors() == before)


def count_all():
    multiprocessing.resource_tracker.ensure_running()  # otherwise a started process would start one, which stays
    return memfds(), descriptors(), threading.active_count()


class ForksWhenPickled:
    """Another thread forks while the process is being started; a child of this thread might become that process."""

    def __init__(self, in_child):
        self.in_child = in_child

    def __reduce__(self):
        with thread(self.fork):
            pass
        return int, ()

    def fork(self):
        self.pid = fork()
        if self.pid == 0:
            try:
                self.in_child()
            finally:
                os._exit(1)


def start_and_kill(sender):
    """What a process runs that is killed before it takes its end, or soon after."""
    process = multiprocessing.get_context("spawn").Process(target=keep_for_ever, args=(sender,))
    process.start()
    process.kill()
    process.join()
    sender.close()
    return process


if __name__ == "__main__":
    unittest.main()
