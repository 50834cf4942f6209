# SPDX-License-Identifier: MIT
"""The coroutines."""

import asyncio
import contextlib
import ctypes
import gc
import os
import pickle
import random
import signal
import socket
import threading
import time
import unittest
import weakref
from concurrent.futures import ThreadPoolExecutor

import buffered_pipe
from buffered_pipe import Generic_Pipe, Static_Pipe
from support import LONG, child, descriptors, stopped_in_the_middle, thread, wait_until


class Asyncio(unittest.IsolatedAsyncioTestCase):
    async def within(self, awaitable):
        return await asyncio.wait_for(awaitable, LONG)

    async def test_objects_and_bytes(self):
        receiver, sender = Generic_Pipe(4096)
        await sender.async_send({"a": 1})
        self.assertEqual(await receiver.async_recv(), {"a": 1})
        await sender.async_send_bytes(b"0123456789", 2, 3)
        self.assertEqual(await receiver.async_recv_bytes(), b"234")
        await sender.async_send(pickle.PickleBuffer(bytearray(b"x" * 2000)))
        self.assertEqual(bytes(await receiver.async_recv()), b"x" * 2000)
        with self.assertRaises(ValueError):
            await sender.async_send_bytes(b"0123456789", 8, 3)
        with self.assertRaises(TypeError):
            await sender.async_send_bytes(b"0123456789", None)
        with self.assertRaisesRegex(OSError, "only receives"):
            await receiver.async_send(lambda: "cannot be pickled")
        receiver, sender = Static_Pipe(3, 3)
        await sender.async_send(b"abc")
        self.assertEqual(await receiver.async_recv(), b"abc")
        with self.assertRaises(ValueError):
            await sender.async_send(b"abcd")

    async def test_the_loop_runs_while_others_wait(self):
        receiver, sender = Generic_Pipe(4096)
        waiting = [asyncio.create_task(receiver.async_recv()) for _ in range(3)]
        await asyncio.sleep(0)
        for number in range(3):
            self.assertFalse(all(task.done() for task in waiting))
            sender.send(number)
        self.assertEqual(sorted(await self.within(asyncio.gather(*waiting))), [0, 1, 2])

    async def test_a_closed_end_takes_nothing_from_the_file_that_has_its_number_next(self):
        async def receive(receiver):
            with self.assertRaises(OSError):
                await receiver.async_recv()

        async def accept(listener):
            with self.assertRaises(OSError):
                await listener.async_accept()

        loop = asyncio.get_running_loop()
        receiver, sender = Generic_Pipe(4096)
        for thing, waits in (
            (receiver, receive),
            (buffered_pipe.listen(f"@aio-{os.getpid()}"), accept),
        ):
            task = asyncio.create_task(waits(thing))
            await asyncio.sleep(0.01)
            number = thing.fileno()
            thing.close()
            sockets = {}
            while number not in sockets:
                pair = socket.socketpair()
                for ours, theirs in (pair, pair[::-1]):
                    sockets[ours.fileno()] = ours, theirs
            ours, theirs = sockets[number]
            ours.setblocking(False)
            loop.call_later(0.05, theirs.send, b"there")
            self.assertEqual(await self.within(asyncio.create_task(loop.sock_recv(ours, 10))), b"there")
            await self.within(task)
            for each, _ in sockets.values():
                each.close()

    async def test_a_waiter_takes_no_cpu_while_another_thread_looks_at_the_message(self):
        receiver, sender = Generic_Pipe(4096)
        sender.send_bytes(b"x")
        entered, leave = threading.Event(), threading.Event()

        def look():
            with receiver.recv_view():
                entered.set()
                leave.wait(LONG)

        def wait():
            self.assertEqual(buffered_pipe.wait([receiver, other], 0.4), [])

        other = socket.socket(type=socket.SOCK_DGRAM)
        with thread(look):
            entered.wait(LONG)
            for waiting in (
                lambda: asyncio.wait_for(receiver.async_recv_bytes(), 0.4),
                lambda: asyncio.to_thread(wait),
            ):
                before = time.process_time()
                with contextlib.suppress(asyncio.TimeoutError):
                    await waiting()
                self.assertLess(time.process_time() - before, 0.2)
            leave.set()
        other.close()

    async def test_a_stream_through_a_small_pipe(self):
        receiver, sender = Static_Pipe(4, 2)
        count = 300

        async def send():
            for number in range(count):
                await sender.async_send(number.to_bytes(4, "big"))

        task = asyncio.create_task(send())
        for number in range(count):
            self.assertEqual(await self.within(receiver.async_recv()), number.to_bytes(4, "big"))
        await task

    def test_a_coroutine_that_is_closed_lets_go_of_its_end(self):
        receiver, sender = Static_Pipe(4, 2)
        for _ in range(2):
            sender.send(bytes(4))
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # it says that the task was pending
        task = loop.create_task(sender.async_send(bytes(4)))
        loop.run_until_complete(asyncio.sleep(0.01))
        before = threading.active_count()
        task.get_coro().close()
        loop.close()
        del task, sender
        wait_until(lambda: threading.active_count() < before)
        for _ in range(2):
            receiver.recv()
        self.assertRaises(EOFError, receiver.recv, timeout=LONG)

    def test_a_closed_loop_lets_go_of_its_waiters(self):
        before = descriptors()
        receiver, sender = Generic_Pipe(4096)
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # it says that the task was pending
        task = loop.create_task(receiver.async_recv())
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        del task, loop, receiver
        gc.collect()
        self.assertRaises(BrokenPipeError, sender.send, 1)
        sender.close()
        self.assertEqual(descriptors(), before)

    async def test_messages_longer_than_the_ring(self):
        receiver, sender = Generic_Pipe(5)
        message = random.Random(1).randbytes(300000)
        task = asyncio.create_task(sender.async_send(message))
        self.assertEqual(await self.within(asyncio.to_thread(receiver.recv)), message)
        await task

    async def test_a_long_message_does_not_hold_up_the_loop(self):
        receiver, sender = Generic_Pipe(5)
        message = bytes(range(256)) * 400
        for receive, expected in (
            (receiver.async_recv_bytes, message),
            (receiver.async_recv, pickle.loads(pickle.dumps(message))),
        ):
            pid = stopped_in_the_middle(sender, message if expected is message else pickle.dumps(message))
            task = asyncio.create_task(receive())
            # The sender goes on only if the loop runs this.
            await asyncio.sleep(0)
            self.assertFalse(task.done())
            os.kill(pid, signal.SIGCONT)
            self.assertEqual(await self.within(task), expected)
            self.assertEqual(await self.within(receiver.async_recv_bytes()), b"next")
            self.assertEqual(os.waitpid(pid, 0)[1], 0)

    async def test_a_long_message_does_not_pause_at_each_fragment(self):
        # Thousands of fragments: even a short pause at each would last longer than the deadline.
        message = random.Random(1).randbytes(400000)
        receiver, sender = Generic_Pipe(5)
        queue = buffered_pipe.Queue(buffer_size=5)
        for receive, send in (receiver.async_recv_bytes, sender.send_bytes), (queue.async_get, queue.put):
            with child(send, message):
                self.assertEqual(await self.within(receive()), message)

    async def test_cancelled_in_the_middle_of_a_long_message(self):
        receiver, sender = Generic_Pipe(5)
        message = random.Random(1).randbytes(100000)
        pid = stopped_in_the_middle(sender, message)
        for _ in range(3):
            task = asyncio.create_task(receiver.async_recv_bytes())
            await asyncio.sleep(0)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await self.within(task)
        os.kill(pid, signal.SIGCONT)
        # Nothing is lost.
        self.assertEqual(await self.within(receiver.async_recv_bytes()), message)
        self.assertEqual(await self.within(receiver.async_recv_bytes()), b"next")
        self.assertEqual(os.waitpid(pid, 0)[1], 0)

    async def test_a_send_that_fails_leaves_nothing_behind(self):
        class Data(bytearray):
            pass

        gone = []
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        for cancels in False, True:
            receiver, sender = Generic_Pipe(4096)
            data = Data(1000000)
            gone += weakref.ref(data), weakref.ref(sender)
            task = asyncio.ensure_future(sender.async_send_bytes(data))
            del data
            await asyncio.to_thread(wait_until, lambda: buffered_pipe._aio._lent)
            if cancels:
                task.cancel()
            else:
                receiver.close()
            with self.assertRaises((BrokenPipeError, asyncio.CancelledError)):
                await self.within(task)
            del task, sender, receiver
        # A thread may still be in its last step.
        await asyncio.to_thread(wait_until, lambda: not any(each() for each in gone))

    async def test_a_buffer_in_another_order_is_sent_in_c_order(self):
        receiver, sender = Generic_Pipe(4096)
        every_other = memoryview(b"0123456789")[::2]
        await sender.async_send_bytes(every_other)
        self.assertEqual(await receiver.async_recv_bytes(), b"02468")
        await sender.async_send_bytes(every_other, 1, 3)
        self.assertEqual(await receiver.async_recv_bytes(), b"246")

    async def test_an_end_is_closed_while_a_thread_sends(self):
        receiver, sender = Static_Pipe(8, 1)
        sender.send(bytes(8))
        task = asyncio.create_task(sender.async_send(bytes(8)))
        await asyncio.to_thread(wait_until, lambda: buffered_pipe._aio._lent)
        sender.close()
        with self.assertRaisesRegex(OSError, "closed"):
            await self.within(task)
        self.assertEqual(receiver.recv(), bytes(8))
        with self.assertRaises(EOFError):
            receiver.recv(timeout=LONG)

    async def test_cancelled_twice(self):
        receiver, sender = Static_Pipe(8, 1)
        sender.send(bytes(8))
        data = bytearray(8)
        task = asyncio.create_task(sender.async_send(data))
        while not buffered_pipe._aio._lent:
            await asyncio.sleep(0)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        with self.assertRaises(asyncio.CancelledError):
            await self.within(task)
        await asyncio.to_thread(wait_until, lambda: not buffered_pipe._aio._lent)
        data.append(1)  # BufferError while something is exported

    async def test_sending_needs_no_thread_of_the_loop(self):
        receiver, sender = Static_Pipe(8, 1)
        sender.send(bytes(8))
        with ThreadPoolExecutor(1) as executor:
            asyncio.get_running_loop().set_default_executor(executor)
            sending = [asyncio.create_task(sender.async_send(bytes([i] * 8))) for i in range(3)]
            got = [await self.within(asyncio.to_thread(receiver.recv)) for _ in range(4)]
            await self.within(asyncio.gather(*sending))
        self.assertEqual(sorted(got[1:]), [bytes([i] * 8) for i in range(3)])

    async def test_an_empty_buffer_can_be_sent(self):
        receiver, sender = Generic_Pipe(100)
        await sender.async_send_bytes((ctypes.c_int * 0 * 3)())
        self.assertEqual(receiver.recv_bytes(timeout=0), b"")

    async def test_from_another_process(self):
        receiver, sender = Generic_Pipe(4096)

        def send():
            for number in range(1000):
                sender.send(number)

        with child(send):
            for number in range(1000):
                self.assertEqual(await self.within(receiver.async_recv()), number)

    async def test_the_end_of_the_stream(self):
        receiver, sender = Generic_Pipe(4096)
        task = asyncio.create_task(receiver.async_recv())
        await asyncio.sleep(0)
        sender.close()
        with self.assertRaises(EOFError):
            await self.within(task)
        receiver.close()
        with self.assertRaises(OSError):
            await receiver.async_recv()

    async def test_a_handle_is_closed_meanwhile(self):
        receiver, sender = Generic_Pipe(4096)
        other = receiver.fork()
        task, others = asyncio.create_task(receiver.async_recv()), asyncio.create_task(other.async_recv())
        await asyncio.sleep(0)
        receiver.close()
        with self.assertRaisesRegex(OSError, "closed"):
            await self.within(task)
        sender.send("for the other handle")
        self.assertEqual(await self.within(others), "for the other handle")

    async def test_a_handle_is_closed_meanwhile_by_its_with_block(self):
        receiver, sender = Generic_Pipe(4096)
        with buffered_pipe.listen(f"@buffered-pipe-test-with-{os.getpid()}") as listener, receiver:
            tasks = [asyncio.create_task(receiver.async_recv()), asyncio.create_task(listener.async_accept())]
            await asyncio.sleep(0)
        for task in tasks:
            with self.assertRaisesRegex(OSError, "closed"):
                await self.within(task)

    async def test_cancellation(self):
        receiver, sender = Generic_Pipe(4096)
        task = asyncio.create_task(receiver.async_recv())
        await asyncio.sleep(0)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        sender.send("kept")
        self.assertEqual(await self.within(receiver.async_recv()), "kept")
        full_receiver, full = Static_Pipe(8, 1)
        full.send(bytes(8))
        with self.assertRaises(asyncio.TimeoutError):
            await asyncio.wait_for(full.async_send(b"8 bytes!"), 0.05)
        # Nobody has received meanwhile, so it cannot have been sent, and will not be.
        await asyncio.to_thread(wait_until, lambda: not buffered_pipe._aio._lent)
        self.assertEqual(full_receiver.recv(), bytes(8))
        self.assertFalse(full_receiver.poll())

    async def test_accept(self):
        address = f"@buffered-pipe-test-{os.getpid()}"
        with buffered_pipe.listen(address) as listener:
            task = asyncio.create_task(listener.async_accept())
            await asyncio.sleep(0)
            sender = await self.within(asyncio.to_thread(buffered_pipe.connect, address))
            receiver = await self.within(task)
        await sender.async_send("hello")
        self.assertEqual(await self.within(receiver.async_recv()), "hello")


if __name__ == "__main__":
    unittest.main()
