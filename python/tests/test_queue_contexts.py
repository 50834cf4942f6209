# SPDX-License-Identifier: MIT
"""The queues in asyncio, and the contexts that make them for other processes."""

import asyncio
import concurrent.futures
import unittest
from multiprocessing import current_process

import buffered_pipe
from buffered_pipe import JoinableQueue, Queue, SimpleQueue, get_context
from support import BLINK, LONG, TestCase, collect

METHODS = "fork", "spawn", "forkserver"


class TestAsyncio(TestCase):
    def run_in_loop(self, main):
        asyncio.run(asyncio.wait_for(main, LONG))

    def test_put_and_get(self):
        async def main():
            items = JoinableQueue(2, buffer_size=4096)
            objects = [each if each % 5 else b"x" * 30000 for each in range(20)]

            async def produce():
                for each in objects:
                    await items.async_put(each)

            async def consume():
                for each in objects:
                    self.assertEqual(await items.async_get(), each)
                    items.task_done()

            await asyncio.gather(produce(), consume())
            await items.async_join()
            self.assertEqual(items.qsize(), 0)

        self.run_in_loop(main())

    def test_many(self):
        async def main():
            items = Queue(10)
            found = []
            task = asyncio.ensure_future(items.async_put_many(range(50)))
            while len(found) < 50:
                found += await items.async_get_many(8)
            await task
            self.assertEqual(found, list(range(50)))
            self.assertEqual(await items.async_get_many(0), [])

        self.run_in_loop(main())

    def test_cancelled_get_takes_nothing(self):
        async def main():
            items = Queue()
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(items.async_get(), 0.05)
            items.put(1)
            self.assertEqual(await items.async_get(), 1)

        self.run_in_loop(main())

    def test_cancelled_put_leaves_the_queue_usable(self):
        async def main():
            items = Queue(1)
            await items.async_put(1)
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(items.async_put(2), 0.3)
            self.assertEqual(items.get(), 1)
            self.assertLessEqual(len(collect(items)), 1)

        self.run_in_loop(main())

    def test_close_wakes(self):
        async def main():
            items = Queue()
            task = asyncio.ensure_future(items.async_get())
            await asyncio.sleep(0.05)
            items.close()
            with self.assertRaises((OSError, ValueError)):
                await task

        self.run_in_loop(main())

    def test_simple(self):
        async def main():
            items = SimpleQueue()
            await items.async_put(1)
            self.assertEqual(await items.async_get(), 1)

        self.run_in_loop(main())


def produce(items, name, count):
    for each in range(count):
        items.put((name, each))


def consume(items, results):
    for each in iter(items.get, None):
        results.put(each)


def square(number):
    return number * number


def which_queue(items):
    items.put((type(items).__name__, type(items).__module__, current_process().name))


class TestContexts(TestCase):
    def test_producers_and_consumers(self):
        for method in METHODS:
            with self.subTest(method):
                context = get_context(method)
                items, results = context.Queue(10), context.SimpleQueue()
                producers = [context.Process(target=produce, args=(items, name, 50)) for name in "ab"]
                consumers = [context.Process(target=consume, args=(items, results)) for _ in range(2)]
                for each in producers + consumers:
                    each.start()
                found = sorted(results.get() for _ in range(100))
                self.assertEqual(found, [(name, each) for name in "ab" for each in range(50)])
                items.put_many([None, None])
                for each in producers + consumers:
                    each.join(LONG)
                    self.assertEqual(each.exitcode, 0)
                self.assertEqual(items.qsize(), 0)

    def test_pool(self):
        for method in METHODS:
            with self.subTest(method), get_context(method).Pool(2) as pool:
                self.assertEqual(pool.map(square, range(20)), [square(each) for each in range(20)])
                self.assertIsInstance(pool._inqueue, SimpleQueue)

    def test_executor(self):
        for method in METHODS:
            with self.subTest(method):
                with concurrent.futures.ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
                    self.assertEqual(list(pool.map(square, range(20))), [square(each) for each in range(20)])
                    self.assertIsInstance(pool._result_queue, SimpleQueue)

    def test_methods(self):
        for method in METHODS:
            context = get_context(method)
            self.assertEqual(context.get_start_method(), method)
            self.assertIs(context.get_context(), context)
            self.assertIs(context.get_context("spawn"), get_context("spawn"))
            self.assertIsInstance(context.Queue(), Queue)
            self.assertIsInstance(context.JoinableQueue(3), JoinableQueue)
            self.assertIsInstance(context.SimpleQueue(), SimpleQueue)
            self.assertIsInstance(context.Pipe()[0], buffered_pipe.End)
            self.assertTrue(context.Pipe()[0].writable)
            self.assertFalse(context.Pipe(False)[0].writable)
            self.assertTrue(context.Lock().acquire(timeout=BLINK))
        self.assertIn(get_context().get_start_method(), METHODS)
        with self.assertRaisesRegex(ValueError, "cannot find context"):
            get_context("nothing")

    def test_subclass(self):
        for method in METHODS:
            context = get_context(method)
            items = Named(3)
            process = context.Process(target=which_queue, args=(items,))
            process.start()
            self.assertEqual(items.get(timeout=LONG)[0], "Named")
            process.join(LONG)


class Named(Queue):
    pass


if __name__ == "__main__":
    unittest.main()
