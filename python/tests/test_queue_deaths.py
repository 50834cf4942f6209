# SPDX-License-Identifier: MIT
"""Queues whose processes die: what stays, and what the counts say."""

import mmap
import os
import queue
import signal
import struct
import threading
import time
import unittest

from buffered_pipe import JoinableQueue, Queue
from support import LONG, TestCase, child, collect, thread


class Counts:
    """The counts of a queue, which a test changes to what a death would leave.  See src/tally_page.h."""

    FROM, NEXT, WORD, GETS = 104, 112, 120, 128

    def __init__(self, items):
        self.memory = mmap.mmap(items._descriptor, 256)

    def __getitem__(self, where):
        return struct.unpack_from("Q", self.memory, where)[0]

    def __setitem__(self, where, value):
        struct.pack_into("Q", self.memory, where, value)

    def producer_dies_before_it_sends(self):
        self[self.FROM] = self[self.NEXT]
        self[self.WORD] |= 1

    def producer_dies_before_it_counts(self):
        self[self.WORD] = self[self.WORD] - 2 | 1

    def consumer_dies_before_it_counts(self):
        self[self.GETS] -= 1


class TestDeath(TestCase):
    def test_of_a_producer_that_had_sent(self):
        for size in (0, 100, *range(4045, 4070), 5000, 100000):
            items = JoinableQueue(10, buffer_size=1 << 18)
            counts = Counts(items)
            items.put(b"first")
            items.put(b"x" * size)
            counts.producer_dies_before_it_counts()
            self.assertEqual(items.qsize(), 2)
            items.put(b"last")
            counts.producer_dies_before_it_counts()
            items.put(b"very last")
            self.assertEqual(items.qsize(), 4)
            self.assertEqual(items._unfinished(), 4)
            self.assertEqual(collect(items), [b"first", b"x" * size, b"last", b"very last"])
            self.assertEqual(items.qsize(), 0)
            for _ in range(4):
                items.task_done()
            self.assertTrue(items.join(0))

    def test_of_a_producer_that_had_not_sent(self):
        items = JoinableQueue(10)
        counts = Counts(items)
        for each in range(5):
            counts.producer_dies_before_it_sends()
            self.assertEqual(items.qsize(), each)
            items.put(each)
            counts.producer_dies_before_it_sends()
            self.assertEqual(items._unfinished(), each + 1)
        self.assertEqual(collect(items), [0, 1, 2, 3, 4])
        self.assertEqual(items.qsize(), 0)

    def test_of_a_producer_in_a_full_buffer(self):
        items = Queue(buffer_size=4096)
        counts = Counts(items)
        count = 0
        with self.assertRaises(queue.Full):
            while True:
                items.put_nowait(count)
                count += 1
                place = counts[Counts.FROM]
        counts[Counts.FROM] = place
        counts.producer_dies_before_it_counts()
        with self.assertRaises(queue.Full):
            items.put_nowait(count)
        self.assertEqual(items.get(), 0)
        self.assertEqual(items.qsize(), count - 1)
        items.put_nowait(count)
        self.assertEqual(items.qsize(), count)
        self.assertEqual(collect(items), list(range(1, count + 1)))

    def test_of_a_consumer(self):
        items = Queue(3)
        counts = Counts(items)
        for each in range(3):
            items.put(each)
        items.get()
        counts.consumer_dies_before_it_counts()
        self.assertEqual(items.qsize(), 2)
        counts.consumer_dies_before_it_counts()
        items.put_nowait(3)
        self.assertTrue(items.full())
        self.assertEqual(collect(items), [1, 2, 3])
        counts.consumer_dies_before_it_counts()
        self.assertEqual(items.qsize(), 0)

    def test_of_a_consumer_of_the_only_item(self):
        items = Queue(1)
        items.put(1)
        items.get()
        Counts(items).consumer_dies_before_it_counts()
        items.put(2, timeout=LONG)
        self.assertEqual(items.get(), 2)

    def test_what_was_put_survives(self):
        items = Queue()

        def put_and_die():
            items.put_many(range(100))
            items.put("last")
            os.kill(os.getpid(), signal.SIGKILL)

        with self.assertRaises(AssertionError), child(put_and_die):
            pass
        self.assertEqual(items.qsize(), 101)
        self.assertEqual(collect(items), [*range(100), "last"])

    def test_fork_while_others_wait(self):
        items = Queue(1)
        items.put(1)
        with thread(items.put, 2), thread(items.put, 3):
            time.sleep(0.05)

            def take_all():
                assert sorted(items.get(timeout=LONG) for _ in range(3)) == [1, 2, 3]

            with child(take_all):
                pass
        self.assertEqual(items.qsize(), 0)

    def test_threads(self):
        items, results = Queue(20), []

        def work():
            results.extend(iter(items.get, None))

        workers = [threading.Thread(target=work, daemon=True) for _ in range(4)]
        for each in workers:
            each.start()
        with thread(items.put_many, range(2000)), thread(items.put_many, range(2000, 4000)):
            pass
        items.put_many([None] * 4)
        for each in workers:
            each.join(LONG)
        self.assertEqual(sorted(results), list(range(4000)))


if __name__ == "__main__":
    unittest.main()
