# SPDX-License-Identifier: MIT
"""Queue, JoinableQueue and SimpleQueue in one process."""

import asyncio
import ctypes
import os
import pickle
import queue
import signal
import time
import unittest
from multiprocessing import connection

import buffered_pipe
from buffered_pipe import JoinableQueue, Queue, SimpleQueue
from support import LONG, TestCase, asleep, child, collect, descriptors, fork, thread, wait_until

try:
    import numpy
except ImportError:
    numpy = None

OBJECTS = [
    *(0, 1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -1, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63), 2**63, 2**100),
    *(None, True, False, 0.0, -1.5, float("inf"), b"", b"a", b"b" * 255, b"c" * 256, b"d" * 5000, "", "a"),
    *("b" * 255, "c" * 256, "\xe9" * 100, "\u20ac", "\ud800", "d" * 100000, [], (1, "a"), {"a": [1, {2}]}),
]


class Unloadable:
    def __reduce__(self):
        return int, ("no number",)


class Undumpable:
    def __reduce__(self):
        raise ZeroDivisionError


class Number(int):
    pass


class Interrupting:
    """Loading it is interrupted as if by Control-C, once."""

    count = 0

    def __reduce__(self):
        return interrupt_once, ()


def interrupt_once():
    Interrupting.count += 1
    if Interrupting.count == 1:
        raise KeyboardInterrupt
    return "loaded"


class TestInterface(TestCase):
    def test_objects_come_out_as_they_went_in(self):
        items = Queue()
        for each in OBJECTS:
            items.put(each)
            found = items.get()
            self.assertEqual(found, each)
            self.assertIs(type(found), type(each))
        items.put(Number(3))
        self.assertIs(type(items.get()), Number)

    def test_order(self):
        items = Queue()
        for each in range(1000):
            items.put(each)
        self.assertEqual([items.get() for _ in range(1000)], list(range(1000)))

    def test_small_objects_are_pickles(self):
        items = Queue()
        for each in OBJECTS:
            items.put(each)
            self.assertEqual(pickle.loads(items._reader.recv_bytes()), each)

    @unittest.skipUnless(numpy, "needs numpy")
    def test_arrays(self):
        items = Queue(buffer_size=65536)
        for size in (10, 1000, 8000):
            items.put({"array": numpy.arange(size)})
            self.assertTrue((items.get()["array"] == numpy.arange(size)).all())
            self.assertEqual(items.qsize(), 0)

    def test_qsize_is_exact(self):
        items = Queue()
        self.assertEqual(items.qsize(), 0)
        for each in range(1, 1001):
            items.put("x" * each)
            self.assertEqual(items.qsize(), each)
        for each in reversed(range(1000)):
            items.get()
            self.assertEqual(items.qsize(), each)
        self.assertTrue(items.empty())

    def test_maxsize_counts_items(self):
        items = Queue(3)
        for each in range(3):
            self.assertFalse(items.full())
            items.put(each)
        self.assertTrue(items.full())
        for args in ((False,), (True, 0.01), (True, -1)):
            with self.assertRaises(queue.Full):
                items.put(3, *args)
        with self.assertRaises(queue.Full):
            items.put_nowait(3)
        self.assertEqual(items.qsize(), 3)
        self.assertEqual(items.get(), 0)
        items.put(3)
        self.assertEqual(collect(items), [1, 2, 3])

    def test_put_waits_for_a_place(self):
        items = Queue(1)
        items.put(0)
        with thread(lambda: [items.put(each) for each in range(1, 500)]):
            self.assertEqual([items.get(timeout=LONG) for _ in range(500)], list(range(500)))

    def test_without_maxsize_the_buffer_is_the_limit(self):
        items = Queue(buffer_size=10000)
        count = 0
        with self.assertRaises(queue.Full):
            while True:
                items.put_nowait(count)
                count += 1
        self.assertGreater(count, 100)
        self.assertEqual(items.qsize(), count)
        self.assertFalse(items.full())
        self.assertEqual(collect(items), list(range(count)))

    def test_empty(self):
        items = Queue()
        self.assertTrue(items.empty())
        for args in ((False,), (True, 0.01), (True, -1)):
            with self.assertRaises(queue.Empty):
                items.get(*args)
        with self.assertRaises(queue.Empty):
            items.get_nowait()
        with self.assertRaises(queue.Empty):
            items.get_many(5, timeout=0.01)
        items.put(1)
        self.assertFalse(items.empty())

    def test_many(self):
        items = Queue(5)
        self.assertEqual(items.put_many("abc"), 3)
        self.assertEqual(items.put_many("defg", False), 2)
        with self.assertRaises(queue.Full):
            items.put_many("x", timeout=0.01)
        self.assertEqual(items.put_many(()), 0)
        self.assertEqual(items.get_many(0), [])
        self.assertEqual(items.get_many(2), ["a", "b"])
        self.assertEqual(items.qsize(), 3)
        self.assertEqual(items.get_many(100), ["c", "d", "e"])
        self.assertEqual(items.qsize(), 0)

    def test_many_of_all_kinds(self):
        items = Queue(buffer_size=30000)
        found = []
        with thread(items.put_many, OBJECTS * 30):
            while len(found) < 30 * len(OBJECTS):
                found += items.get_many(7, timeout=LONG)
        self.assertEqual(found, OBJECTS * 30)
        self.assertEqual(items.qsize(), 0)

    def test_many_through_a_full_queue(self):
        items = Queue(7)
        found = []
        with thread(items.put_many, range(1000)):
            while len(found) < 1000:
                found += items.get_many(5, timeout=LONG)
        self.assertEqual(found, list(range(1000)))

    def test_what_cannot_be_pickled_is_not_put(self):
        items = Queue()
        with self.assertRaises(ZeroDivisionError):
            items.put(Undumpable())
        with self.assertRaises(ZeroDivisionError):
            items.put_many([1, 2, Undumpable()])
        self.assertEqual(items.qsize(), 0)
        self.assertTrue(items.empty())

    def test_an_object_that_cannot_be_loaded_loses_no_other(self):
        items = Queue()
        items.put_many([1, 2, Unloadable(), 3])
        self.assertEqual(items.get_many(10), [1, 2])
        with self.assertRaises(ValueError):
            items.get()
        self.assertEqual(items.get_many(10), [3])
        items.put(Unloadable())
        with self.assertRaises(ValueError):
            items.get_many(10)
        self.assertEqual(items.qsize(), 0)

    def test_control_c_while_an_object_is_loaded_loses_nothing(self):
        items = Queue()
        for take in (
            lambda: [items.get()],
            lambda: items.get_many(10),
            lambda: asyncio.run(items.async_get_many(10)),
        ):
            Interrupting.count = 0
            items.put_many([1, 2, Interrupting(), 3])
            found = []
            with self.assertRaises(KeyboardInterrupt):
                while True:
                    found += take()
            self.assertEqual(items.qsize(), 4 - len(found))
            self.assertFalse(items.empty())
            with child(lambda: self.assertEqual(items.qsize(), 1)):  # the child does not have what this process had taken
                pass
            found += collect(items)
            self.assertEqual(found, [1, 2, "loaded", 3])
            self.assertEqual(items.qsize(), 0)
            self.assertTrue(items.empty())

    def test_many_for_asyncio_loses_nothing_beside_what_cannot_be_loaded(self):
        items = Queue()
        items.put_many([1, Unloadable(), Unloadable(), 2])
        self.assertEqual(asyncio.run(items.async_get_many(10)), [1])
        for _ in range(2):
            with self.assertRaises(ValueError):
                items.get_many(10)
        self.assertEqual(asyncio.run(items.async_get_many(10)), [2])
        self.assertEqual(asyncio.run(items.async_get_many(0)), [])
        with self.assertRaises(ValueError):
            asyncio.run(items.async_get_many(-1))

    def test_a_queue_in_a_cycle_is_collected(self):
        class End(buffered_pipe.End):
            pass

        before = descriptors()
        reader, writer = End._pair(buffer_size=4096)
        items = buffered_pipe._core.Queue()
        items._set_up(reader, writer, 0, -1)
        reader.queue = items
        del items, reader, writer
        self.assertEqual(descriptors(), before)  # which collects

    def test_ends_whose_fork_gives_something_else(self):
        class End(buffered_pipe.End):
            def fork(self):
                return 5

        items = buffered_pipe._core.Queue()
        items._set_up(*End._pair(buffer_size=4096), 0, -1)
        self.assertRaises(TypeError, items._fork)

    def test_longer_than_the_buffer(self):
        items = Queue(buffer_size=4096)
        objects = [b"%d" % each * 30000 for each in range(10)]
        with thread(lambda: [items.put(each) for each in objects]):
            self.assertEqual([items.get(timeout=LONG) for _ in objects], objects)
        self.assertEqual(items.qsize(), 0)
        with self.assertRaises(ValueError):
            items.put_nowait(objects[0])
        with self.assertRaises(queue.Full):
            items.put(objects[0], timeout=0.05)
        items.put(1)
        self.assertEqual((items.qsize(), items.get(timeout=LONG)), (1, 1))

    def test_a_timeout_in_the_middle_of_a_long_object_loses_nothing(self):
        items = Queue(buffer_size=4096)
        pid = fork()
        if pid == 0:
            items.put(b"x" * 1000000)
            items.put(2)
            os._exit(0)
        wait_until(lambda: not items.empty() and asleep(pid))
        os.kill(pid, signal.SIGSTOP)
        os.waitpid(pid, os.WUNTRACED)
        for _ in range(3):
            with self.assertRaises(queue.Empty):
                items.get(timeout=0.05)
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(items.get(timeout=LONG), b"x" * 1000000)
        self.assertEqual(items.get(timeout=LONG), 2)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(items.qsize(), 0)

    def test_closed(self):
        items = Queue()
        self.assertFalse(items.closed)
        with self.assertRaises(AssertionError):
            items.join_thread()
        items.put(1)
        items.close()
        items.close()
        items.join_thread()
        items.cancel_join_thread()
        self.assertTrue(items.closed)
        for call, *args in ((items.put, 1), (items.get,), (items.put_many, [1]), (items.get_many, 1)):
            with self.assertRaisesRegex(ValueError, "is closed"):
                call(*args)
        for call in (items.empty, items.qsize, items.full):
            with self.assertRaisesRegex(OSError, "is closed"):
                call()
        self.assertIn("closed", repr(items))

    def test_closed_by_another_thread(self):
        items = Queue()
        with self.assertRaisesRegex(ValueError, "is closed"):
            with thread(lambda: (time.sleep(0.1), items.close())):
                items.get(timeout=LONG)

    def test_arguments(self):
        self.assertRaises(TypeError, Queue, 0, buffer_size="x")
        self.assertRaises(ValueError, Queue, 0, buffer_size=0)
        self.assertRaises(TypeError, Queue, "x")
        items = Queue(-3)
        self.assertEqual(items.maxsize, 0)
        self.assertRaises(TypeError, items.put)
        self.assertRaises(TypeError, items.put, 1, True, "x")
        self.assertRaises(TypeError, items.put, 1, nothing=1)
        self.assertRaises(TypeError, items.get, True, None, 1)
        self.assertRaises(TypeError, items.put_many, 1)
        self.assertRaises(ValueError, items.get_many, -1)
        self.assertRaises(RuntimeError, items._set_up, items._reader, items._writer, 0, -1)
        self.assertRaises(OSError, buffered_pipe._core.Queue()._set_up, items._reader, items._writer, 0, 1)
        self.assertIn("0 items", repr(items))
        self.assertRaises(ValueError, buffered_pipe._core.Queue().put, 1)
        self.assertIsNotNone(Queue[int])

    def test_is_pickled_for_processes_only(self):
        for each in (Queue(), SimpleQueue(), JoinableQueue()):
            with self.assertRaises(RuntimeError):
                pickle.dumps(each)

    def test_readiness(self):
        items = Queue()
        self.assertEqual(connection.wait([items._reader], 0), [])
        items.put(1)
        self.assertEqual(connection.wait([items._reader], LONG), [items._reader])
        items.get()
        self.assertEqual(connection.wait([items._reader], 0), [])

    def test_what_was_sent_past_the_counts_is_received(self):
        items = Queue(2)
        items._writer.send("foreign")
        items._writer.send(b"x" * 300)
        self.assertEqual([items.get(), items.get()], ["foreign", b"x" * 300])
        for each in range(10):
            items.put(each)
            items.put(each)
            items._reader.recv()
            self.assertEqual(items.get(), each)
        self.assertEqual(items.qsize(), 0)

    def test_where_a_record_lies(self):
        # By the place of the next record, a producer finds out whether one that died has sent its item.
        items = Queue()

        def place():
            with self.assertRaises(KeyError), items._writer.send_view(8) as memory:
                where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
                raise KeyError
            return where

        for size in (0, 1, 7, 8, 100, 240, 4000, 4072, 4081, 4088, 5000, 20000):
            before = place()
            items._writer.send_bytes(b"x" * size)
            self.assertEqual(place() - before, 8 + (size + 7) // 8 * 8)

    def test_descriptors(self):
        before = descriptors()
        items = Queue()
        items.put(1)
        other = items._fork()
        items.close()
        self.assertEqual(other.get(), 1)
        other.close()
        del items, other
        self.assertEqual(descriptors(), before)

    def test_a_timeout_error_of_a_handler_is_not_taken_for_a_timeout(self):
        def handler(*_):
            raise TimeoutError("of the handler")

        before = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        items = Queue(1)
        with self.assertRaisesRegex(TimeoutError, "of the handler"):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            items.get()
        items.put(1)
        with self.assertRaisesRegex(TimeoutError, "of the handler"):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            items.put(2)
        self.assertEqual(collect(items), [1])

    def test_a_handler_that_puts(self):
        items = Queue(2)
        before = signal.signal(signal.SIGALRM, lambda *_: items.put("handler"))
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        self.assertEqual(items.get(timeout=LONG), "handler")


class TestJoinable(TestCase):
    def test_join(self):
        tasks = JoinableQueue()
        self.assertTrue(tasks.join())
        for each in range(3):
            tasks.put(each)
        self.assertFalse(tasks.join(0.01))
        for _ in range(3):
            tasks.get()
        self.assertFalse(tasks.join(0))
        for left in (False, False, True):
            tasks.task_done()
            self.assertEqual(tasks.join(0), left)
        with self.assertRaises(ValueError):
            tasks.task_done()

    def test_join_waits(self):
        tasks = JoinableQueue()
        tasks.put(1)
        with thread(lambda: (time.sleep(0.05), tasks.task_done())):
            self.assertTrue(tasks.join(LONG))

    def test_across_processes(self):
        tasks = JoinableQueue(5)

        def work():
            for each in iter(tasks.get, None):
                tasks.task_done()
            tasks.task_done()

        with child(work), child(work):
            for each in range(1000):
                tasks.put(each)
            tasks.put_many([None, None])
            self.assertTrue(tasks.join(LONG))


if __name__ == "__main__":
    unittest.main()
