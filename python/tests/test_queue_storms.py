# SPDX-License-Identifier: MIT
"""Queues under kills and interrupts: nothing that was put is lost or comes twice, and the counts stay right.

BUFFERED_PIPE_SOAK=SECONDS makes each storm last that long; without it they are short.
"""

import itertools
import mmap
import os
import queue
import random
import resource
import signal
import struct
import time
import unittest

from buffered_pipe import JoinableQueue, Queue, SimpleQueue
from support import LONG, TestCase, collect, descriptors, end_after, fork

SOAK = float(os.environ.get("BUFFERED_PIPE_SOAK", 0))
SECONDS = SOAK or 1.5
MOST = 1000


def start(function, *args):
    pid = fork()
    if pid:
        return pid
    try:
        function(*args)
    finally:
        os._exit(0)


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def wait_for(pid):
    return os.waitpid(pid, 0)[1]


class Interrupted(KeyboardInterrupt):
    """Not an Exception, so that a queue knows that a handler raised it, even while an object is loaded."""


class InPython:
    """Loading it runs Python code, in which signal handlers run."""

    def __init__(self, number):
        self.number = number

    def __setstate__(self, state):
        for _ in range(50):
            self.__dict__.update(state)


class Storm(TestCase):
    def setUp(self):
        super().setUp()
        if SOAK:
            end_after(SOAK + 4 * LONG)
        self.random = random.Random(os.getpid())

    def for_a_while(self):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            yield

    def pause(self):
        time.sleep(self.random.random() * 0.01)


class Producers(Storm):
    """Each producer puts consecutive numbers, and notes after each put that it has returned."""

    def storm(self, items, put, size):
        noted = mmap.mmap(-1, 4096)  # how many of the present producer's puts have returned
        seen = 0
        killed = 0

        def produce(name):
            number = 0
            while True:
                number += put(items, name, number, size)
                noted[:8] = struct.pack("Q", number)

        for _ in self.for_a_while():
            noted[:8] = struct.pack("Q", 0)
            pid = start(produce, killed)
            self.pause()
            # Take some meanwhile: the producer must also be killed in a queue that is not full.
            taken = []
            for _ in range(self.random.randrange(200)):
                try:
                    taken.append(items.get(timeout=0.001))
                except queue.Empty:
                    pass
            kill(pid)
            returned = struct.unpack("Q", noted[:8])[0]
            size_then = items.qsize()
            rest = collect(items)
            self.assertEqual(size_then, len(rest))
            self.assertEqual(items.qsize(), 0)
            self.assertTrue(items.empty())
            found = taken + rest
            # Nothing that was put is lost; what a put that never returned was putting may be there or not.
            self.assertEqual([each[1] for each in found], list(range(len(found))))
            self.assertTrue(all(each[0] == killed for each in found))
            self.assertLessEqual(returned, len(found))
            self.assertLessEqual(len(found), returned + (1 if put is put_one else BATCH))
            seen += len(found)
            killed += 1
        self.assertGreater(seen, killed)
        self.assertEqual(items.qsize(), 0)
        return killed

    def test_of_small_items(self):
        self.storm(Queue(), put_one, 0)

    def test_of_batches(self):
        self.storm(Queue(buffer_size=20000), put_batch, 0)

    def test_with_maxsize(self):
        self.storm(Queue(3), put_one, 0)

    def test_of_large_items(self):
        self.storm(Queue(buffer_size=65536), put_one, 5000)

    def test_joinable(self):
        tasks = JoinableQueue(20)

        def produce():
            while True:
                tasks.put(1)

        for _ in self.for_a_while():
            pid = start(produce)
            self.pause()
            kill(pid)
            unfinished = tasks._unfinished()
            for _ in range(unfinished):
                tasks.get_nowait()
                tasks.task_done()
            self.assertTrue(tasks.join(LONG))
            self.assertTrue(tasks.empty())
            with self.assertRaises(ValueError):
                tasks.task_done()


BATCH = 10


def put_one(items, name, number, size):
    items.put((name, number, b"x" * size) if size else (name, number))
    return 1


def put_batch(items, name, number, size):
    return items.put_many([(name, number + each) for each in range(BATCH)])


class Consumers(Storm):
    """A killed consumer loses at most one item, or one batch."""

    def storm(self, items, most, take):
        results = SimpleQueue()

        def consume():
            while True:
                for each in take(items):
                    results.put(each)

        total = lost = 0
        for _ in self.for_a_while():
            pids = [start(consume) for _ in range(2)]
            count = self.random.randrange(1, MOST)
            for each in range(count):
                items.put((total, each), timeout=LONG)
            self.pause()
            for each in pids:
                kill(each)
            size_then = items.qsize()
            found = collect(items)
            # The count is exact, although consumers died while they took items.
            self.assertEqual(size_then, len(found))
            self.assertEqual(items.qsize(), 0)
            while not results.empty():
                found.append(results.get())
            self.assertEqual(len(found), len(set(found)), "an item came twice")
            self.assertLessEqual(count - len(found), 2 * most)
            self.assertLessEqual(set(found), {(total, each) for each in range(count)})
            lost += count - len(found)
            total += 1
        return lost

    def test_one_by_one(self):
        self.storm(Queue(), 1, lambda items: [items.get()])

    def test_with_maxsize(self):
        self.storm(Queue(1), 1, lambda items: [items.get()])

    def test_batches(self):
        self.storm(Queue(), BATCH, lambda items: items.get_many(BATCH))


class Everybody(Storm):
    def test_producers_and_consumers(self):
        for maxsize in 0, 5:
            items, results = Queue(maxsize), Queue(buffer_size=1 << 20)

            def produce(name):
                for number in range(1 << 60):
                    items.put((name, number))

            def consume():
                while True:
                    results.put(items.get())

            names = 0
            workers = []
            found = []

            def take_results():
                # Not until the queue is empty: the consumers may put results as fast as they are taken here.
                for _ in range(results.qsize() // 100 + 1):
                    try:
                        found.extend(results.get_many(100, False))
                    except queue.Empty:
                        break

            for _ in self.for_a_while():
                while len(workers) < 6:
                    names += 1
                    workers.append(start(produce, names) if len(workers) % 2 else start(consume))
                self.pause()
                self.random.shuffle(workers)
                for _ in range(2):
                    kill(workers.pop())
                take_results()
            for each in workers:
                kill(each)
            take_results()
            rest = items.qsize()
            left = [items.get_nowait() for _ in range(rest)]
            self.assertTrue(items.empty())
            self.assertEqual(items.qsize(), 0)
            everything = found + left
            self.assertEqual(len(everything), len(set(everything)), "an item came twice")
            # The queue still works: it becomes full, if it has a limit, and empty again.
            for each in range(maxsize or 10):
                items.put_nowait(each)
            self.assertEqual(items.full(), bool(maxsize))
            for each in range(maxsize or 10):
                self.assertEqual(items.get_nowait(), each)


class Interrupts(Storm):
    """A signal handler raises every few milliseconds while 'armed' is set."""

    def setUp(self):
        super().setUp()
        self.armed = False
        self.interrupts = 0
        before = signal.signal(signal.SIGALRM, self.handle)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)

    def handle(self, *_):
        if self.armed:
            self.armed = False
            self.interrupts += 1
            raise Interrupted

    def gets(self, items, produce, take):
        """Calls take(found), which the handler interrupts, until None comes.  Returns the list of all before it.

        No Python code may run between the end of a call of the queue and the list, or an interrupt there
        would lose what the call has returned.
        """
        pid = start(produce)
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
        found = []
        while not found or found[-1] is not None:
            try:
                self.armed = True
                take(found)
                self.armed = False
            except Interrupted:
                pass
        self.assertEqual(wait_for(pid), 0)
        self.assertEqual(found.pop(), None)
        self.assertGreater(self.interrupts, 0)
        self.assertEqual(items.qsize(), 0)
        return found

    def gets_of_bytes(self, items, size):
        def produce():
            number = 0
            for _ in self.for_a_while():
                items.put((number, b"x" * size))
                number += 1
            items.put(None)

        found = self.gets(items, produce, lambda found: found.extend(map(items.get, [True])))
        self.assertEqual([each[0] for each in found], list(range(len(found))))
        self.assertTrue(all(len(each[1]) == size for each in found))

    def test_gets_of_objects_that_are_loaded_in_python(self):
        items = Queue(50)

        def produce():
            number = 0
            for _ in self.for_a_while():
                number += items.put_many(map(InPython, range(number, number + 20)))
            items.put(None)

        def take(found):
            found += map(items.get, [True])
            found += itertools.chain.from_iterable(map(items.get_many, [0 if found[-1] is None else 10]))

        found = self.gets(items, produce, take)
        self.assertEqual([each.number for each in found], list(range(len(found))))

    def test_gets(self):
        self.gets_of_bytes(Queue(10), 10)

    def test_gets_of_large_items(self):
        self.gets_of_bytes(Queue(buffer_size=65536), 5000)

    def puts(self, items, size):
        results = Queue(buffer_size=1 << 20)

        def consume():
            for number, _ in iter(items.get, None):
                results.put(number)

        found = []

        def take_results():
            while not results.empty():
                found.extend(results.get_many(1000))

        pid = start(consume)
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
        number = 0
        returned = []
        for _ in self.for_a_while():
            try:
                self.armed = True
                # An interrupted put may have put its item or not.
                items.put((number, b"x" * size))
                returned.append(number)
                self.armed = False
            except Interrupted:
                pass
            number += 1
            take_results()
        items.put(None)
        self.assertEqual(wait_for(pid), 0)
        take_results()
        self.assertEqual(found, sorted(set(found)), "an item came twice, or out of order")
        self.assertLessEqual(set(returned), set(found))
        self.assertGreater(self.interrupts, 0)
        self.assertEqual(items.qsize(), 0)

    def test_puts(self):
        self.puts(Queue(2), 10)

    def test_puts_of_items_longer_than_the_buffer(self):
        self.puts(Queue(buffer_size=4096), 20000)


class Soak(Storm):
    def test_memory_and_descriptors_are_stable(self):
        def round():
            items = JoinableQueue(50, buffer_size=65536)
            pid = start(lambda: [items.put(each) for each in range(500)])
            for _ in range(500):
                items.get(timeout=LONG)
                items.task_done()
            items.put_many([b"x" * 1000] * 40)
            for _ in items.get_many(100):
                items.task_done()
            self.assertEqual(wait_for(pid), 0)
            self.assertTrue(items.join(LONG))
            items.close()

        def memory():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * resource.getpagesize()

        for _ in range(20):
            round()
        before = descriptors(), memory()
        for _ in self.for_a_while():
            round()
        self.assertEqual(descriptors(), before[0])
        self.assertLess(memory() - before[1], 4 << 20)


if __name__ == "__main__":
    unittest.main()
