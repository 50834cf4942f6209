# SPDX-License-Identifier: MIT
"""Queues with the interface of those of multiprocessing.  Each is a pipe of which every process has both ends."""

import operator
import os
import types
from multiprocessing import context

from . import _aio
from . import _core  # type: ignore[attr-defined]
from . import _processes
from . import _stats

# This gives a ring of a MiB.  With a larger one, the last of many messages may arrive some microseconds later.
BUFFER_SIZE = (1 << 20) - 16


def _make_pipe(buffer_size):
    from . import End, _positive

    size = BUFFER_SIZE if buffer_size is None else _positive("buffer_size", buffer_size)
    return End._pair(buffer_size=size, duplex=False)


class Queue(_core.Queue):
    """A queue for any number of producers and consumers, in threads and processes.

    It holds at most maxsize items; with 0 only the buffer is a limit.  The buffer has room for
    buffer_size bytes of pickled objects, and put() waits while it is full.  An object longer than the
    buffer streams through it.

    Pass a queue to other processes as an argument of multiprocessing.Process.  Objects are pickles:
    take them only from those you trust.
    """

    __module__ = "buffered_pipe"

    def __init__(self, maxsize=0, *, buffer_size=None, ctx=None):
        self._set_up(*_make_pipe(buffer_size), maxsize, -1)

    def __getstate__(self):
        context.assert_spawning(self)
        return self._reader, self._writer, _processes.Passed(self._descriptor)

    def __setstate__(self, state):
        reader, writer, passed = state
        fd = passed.detach()
        try:
            self._set_up(reader, writer, 0, fd)
        finally:
            os.close(fd)

    def __repr__(self):
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        if self.closed:
            return f"<{name} closed at {id(self):#x}>"
        return f"<{name} of {self.qsize()} items, maxsize {self.maxsize}, at {id(self):#x}>"

    def stats(self):
        """Statistics of the queue, as RingStats: how full it is, what producers and consumers have done."""
        return _stats.of_end(self._writer).sends

    def join_thread(self):
        """Do nothing: there is no thread, and what was put is in the queue."""
        assert self.closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self):
        """Do nothing: what was put is in the queue, and the exit of a process does not wait for it."""

    async def async_put(self, obj, /):
        """put() for asyncio.  If it is cancelled, the object may have been put or not.

        If the object cannot be put at once, a thread puts it as soon as there is room.
        """
        await _aio.put(self, self._writer._dump(obj))

    async def async_get(self):
        """get() for asyncio.  If it is cancelled, nothing was taken.

        The part of a long object that has come is kept for the next call.
        """
        return await _aio.get(self)

    async def async_put_many(self, objs, /):
        """Put several objects in order.  If it is cancelled, some of them may have been put."""
        for data in [self._writer._dump(obj) for obj in objs]:
            await _aio.put(self, data)

    async def async_get_many(self, count, /):
        """get_many() for asyncio.  If it is cancelled, nothing was taken."""
        count = operator.index(count)
        if count < 0:
            raise ValueError(f"count must not be negative, but is {count}")
        if count == 0:
            return []
        return self._get_more([await _aio.get(self)], count)

    @classmethod
    def __class_getitem__(cls, item, /):
        return types.GenericAlias(cls, item)


class JoinableQueue(Queue):
    """A Queue that also counts the tasks that are not done yet.

    A task is unfinished from put() until the consumer that took it calls task_done().  A consumer that
    dies in between leaves its task unfinished, because nothing can tell whether it was done.
    """

    __module__ = "buffered_pipe"

    def task_done(self):
        """Say that a task that was taken is done; ValueError if more tasks would be done than were put."""
        self._task_done()

    def join(self, timeout=None):
        """Wait until every task is done.  Return True, or False when the time is up."""
        return self._join(timeout)

    async def async_join(self):
        """join() for asyncio.  It looks at intervals of up to 50 ms."""
        import asyncio

        delay = 0.001
        while self._unfinished():
            await asyncio.sleep(delay)
            delay = min(1.5 * delay, 0.05)


class _NoLock:
    """Stands where the queues of multiprocessing have a lock, which is not needed here."""

    def acquire(self, block=True, timeout=None):
        return True

    def release(self):
        pass

    def __enter__(self):
        return True

    def __exit__(self, *failure):
        pass


class SimpleQueue:
    """A pipe with put() and get(), for any number of threads and processes."""

    __module__ = "buffered_pipe"

    def __init__(self, *, buffer_size=None, ctx=None):
        self._set_up(*_make_pipe(buffer_size))

    def _set_up(self, reader, writer):
        self._reader = reader
        self._writer = writer
        self._poll = reader.poll
        self._rlock = self._wlock = _NoLock()

    def __getstate__(self):
        context.assert_spawning(self)
        return self._reader, self._writer

    def __setstate__(self, state):
        self._set_up(*state)

    def put(self, obj):
        """Put an object into the queue; wait while the buffer is full."""
        self._writer.send(obj)

    def get(self):
        """Wait for an object, take it out of the queue and return it."""
        return self._reader.recv()

    def empty(self):
        """Whether there is nothing to get."""
        return not self._poll()

    def stats(self):
        """Statistics of the queue, as RingStats: how full it is, what producers and consumers have done."""
        return _stats.of_end(self._writer).sends

    def close(self):
        """Let go of the queue in this process."""
        self._reader.close()
        self._writer.close()

    async def async_put(self, obj, /):
        """put() for asyncio, like End.async_send()."""
        await self._writer.async_send(obj)

    async def async_get(self):
        """get() for asyncio, like End.async_recv()."""
        return await self._reader.async_recv()

    @classmethod
    def __class_getitem__(cls, item, /):
        return types.GenericAlias(cls, item)
