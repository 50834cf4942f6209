# SPDX-License-Identifier: MIT
"""Queues with the interface of multiprocessing's, over a pipe of which each process has both ends."""

import operator
import os
import types
from multiprocessing import context

from . import _aio
from . import _core  # type: ignore[attr-defined]
from . import _processes
from . import _stats

# A ring of a MiB.  A larger one holds its last message back for some microseconds, as it is made for streams.
BUFFER_SIZE = (1 << 20) - 16


def _make_pipe(buffer_size):
    from . import End, _positive

    size = BUFFER_SIZE if buffer_size is None else _positive("buffer_size", buffer_size)
    return End._pair(buffer_size=size, duplex=False)


class Queue(_core.Queue):
    """A queue for any number of producers and consumers, in threads and processes.

    maxsize is the most items it holds, 0 no limit but that of the buffer: it has room for
    buffer_size bytes of pickled objects, and put() waits while it is full.  An object that is longer
    streams through it.

    It goes to other processes as an argument of multiprocessing.Process.  Objects are pickles: take
    them only from those you trust.
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
        """What goes on in the queue, as RingStats: how full it is, what producers and consumers have done."""
        return _stats.of_end(self._writer).sends

    def join_thread(self):
        """Nothing: there is no thread, and what was put is in the queue."""
        assert self.closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self):
        """Nothing: what was put is in the queue, and no exit waits for it."""

    async def async_put(self, obj, /):
        """put() for asyncio.  If it is cancelled, the object may have been put or not.

        An object that cannot be put at once is put by a thread, as soon as it can.
        """
        await _aio.put(self, self._writer._dump(obj))

    async def async_get(self):
        """get() for asyncio.  If it is cancelled, nothing was taken.

        What has come of an object that is longer than the buffer is kept for the next call.
        """
        return await _aio.get(self)

    async def async_put_many(self, objs, /):
        """Put several objects in order.  If it is cancelled, some of them were put."""
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
    """A Queue that also counts the tasks which are not done yet.

    A task is unfinished from put() on, until a consumer that took one calls task_done().  A consumer
    that dies in between leaves its task unfinished, as nobody can know whether it was done.
    """

    __module__ = "buffered_pipe"

    def task_done(self):
        """Say that a task which was taken is done; ValueError if more were than were put."""
        self._task_done()

    def join(self, timeout=None):
        """Wait until every task is done, and return whether that is so: True, unless the time is up."""
        return self._join(timeout)

    async def async_join(self):
        """join() for asyncio.  It looks every few milliseconds."""
        import asyncio

        delay = 0.001
        while self._unfinished():
            await asyncio.sleep(delay)
            delay = min(1.5 * delay, 0.05)


class _NoLock:
    """Where multiprocessing has a lock that nobody needs here."""

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
        """What goes on in the queue, as RingStats: how full it is, what producers and consumers have done."""
        return _stats.of_end(self._writer).sends

    def close(self):
        """This process lets go of the queue."""
        self._reader.close()
        self._writer.close()

    async def async_put(self, obj, /):
        """put() for asyncio, as End.async_send()."""
        await self._writer.async_send(obj)

    async def async_get(self):
        """get() for asyncio, as End.async_recv()."""
        return await self._reader.async_recv()

    @classmethod
    def __class_getitem__(cls, item, /):
        return types.GenericAlias(cls, item)
