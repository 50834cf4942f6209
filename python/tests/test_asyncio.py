# SPDX-License-Identifier: MIT
"""The coroutines."""

import asyncio
import contextlib
import os
import pickle
import unittest

import buffered_pipe
from buffered_pipe import Generic_Pipe, Static_Pipe
from support import LONG, child


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

    async def test_messages_longer_than_the_ring(self):
        receiver, sender = Generic_Pipe(5)
        message = os.urandom(300000)
        task = asyncio.create_task(sender.async_send(message))
        self.assertEqual(await self.within(asyncio.to_thread(receiver.recv)), message)
        await task

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
        self.assertEqual(full_receiver.recv(), bytes(8))
        with contextlib.suppress(TimeoutError):
            self.assertEqual(full_receiver.recv(timeout=0.3), b"8 bytes!")

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
