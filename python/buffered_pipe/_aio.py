# SPDX-License-Identifier: MIT
"""Waiting in asyncio: the loop watches the descriptor of an end.

To send when there is no room has a thread of its own, which uses a handle of
its own.

asyncio itself is imported by those who wait: it takes longer than all the rest.
"""

import fcntl
import operator
import os
import threading
import time
import weakref

from . import _core  # type: ignore[attr-defined]

# Who waits, in each loop.  A future refers to its loop, so this must not keep it.
_waiters: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_lock = threading.RLock()  # the handler of a signal may close an end, too
# The handles of the threads: {handle: the end that it stands for}.
_lent: dict = {}


def _awake(future):
    if not future.done():
        future.set_result(None)


async def _readable(thing):
    """Until there may be something to receive, or a handle was closed."""
    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()
    with _lock:
        waiting = _waiters.setdefault(loop, weakref.WeakSet())
    waiting.add(future)
    fd = -1
    try:
        # One of our own: should the other be closed, its number may be another file's before the loop has let go.
        # Above standard error, which may be closed.
        fd = fcntl.fcntl(thing.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        if not thing.closed:
            loop.add_reader(fd, _awake, future)
            await future
    finally:
        waiting.discard(future)
        if fd >= 0:
            try:
                loop.remove_reader(fd)
            finally:
                os.close(fd)


def backoff(delay, begin):
    """How long to wait before the next wait, if that since 'begin' was for nothing.

    A message that somebody else looks at in place is ready all the time, but not to be had.
    """
    return 0 if time.monotonic() - begin > 0.001 else min(2 * delay + 0.0002, 0.02)


def _close(handle):
    """The handle of a thread: without a call of wake()."""
    (_core.End if isinstance(handle, _core.End) else _core.Queue).close(handle)


def wake():
    """A handle was closed: whoever waits looks again."""
    for handle, end in list(_lent.items()):
        if end.closed:
            _close(handle)
    if not _waiters:
        return
    with _lock:
        loops = list(_waiters)
    for loop in loops:
        try:
            loop.call_soon_threadsafe(_wake_all, loop)
        except RuntimeError:
            pass  # the loop was closed


def _wake_all(loop):
    for future in list(_waiters.get(loop, ())):
        _awake(future)


def _after_fork():
    """The threads are not in the child, and the loops are the parent's."""
    global _lock
    _lock = threading.RLock()
    _waiters.clear()
    _core.leave_views_behind()
    while _lent:
        _close(_lent.popitem()[0])


os.register_at_fork(after_in_child=_after_fork)


async def _try(attempt, nothing, end):
    """What the attempt returns.  'nothing' is the exception that says that there is nothing to receive."""
    import asyncio

    delay = 0
    while True:
        try:
            return attempt()
        except BlockingIOError:
            # Something of a long message has come.  So the wait was not for nothing, and the rest is on its way.
            delay = 0
            await asyncio.sleep(0)
        except nothing:
            if delay:
                await asyncio.sleep(delay)
            begin = time.monotonic()
            await _readable(end)
            delay = backoff(delay, begin)


async def receive(end, objects):
    return await _try(lambda: end._recv_now(objects), TimeoutError, end)


async def accept(listener):
    while True:
        try:
            return listener.accept(timeout=0)
        except TimeoutError:
            await _readable(listener)


def _part(buf, offset, size):
    """A memoryview of the part, of bytes."""
    offset = operator.index(offset)
    size = None if size is None else operator.index(size)
    with memoryview(buf) as whole:
        # What is empty in one of several dimensions cannot be cast, nor what has another order than C's.
        with whole.cast("B") if whole.nbytes and whole.c_contiguous else memoryview(bytes(whole)) as view:
            part = view[offset:] if size is None else view[offset : offset + size]
            if offset < 0 or offset > len(view) or (size is not None and len(part) != size):
                raise ValueError("offset and size lie outside of the buffer")
            return part


async def send(end, buf, offset=0, size=None):
    part = _part(buf, offset, size)
    if end.object_size or len(part) <= end.buffer_size:
        try:
            with part:
                return end.send_bytes(part, timeout=0)
        except TimeoutError:
            part = _part(buf, offset, size)

    def send_and_let_go(handle):
        with part:
            handle.send_bytes(part)

    await _in_thread(end, send_and_let_go)


async def put(queue, data):
    from queue import Full

    try:
        return queue._put_dumped(data)
    except (Full, BlockingIOError):
        pass
    await _in_thread(queue, lambda handle: handle._put_dumped(data, True))


async def get(queue):
    from queue import Empty

    return await _try(queue._get_now, Empty, queue._reader)


def _finish(future, outcome):
    if not future.done():
        future.set_result(outcome)


def _run(call, handle, loop, future):
    result = failure = None
    try:
        result = call(handle)
    except BaseException as error:
        failure = error
    _lent.pop(handle, None)
    _close(handle)
    try:
        loop.call_soon_threadsafe(_finish, future, (result, failure))
    except RuntimeError:
        pass  # the loop was closed
    finally:
        del future, failure  # whose traceback refers to this frame


def _start(function, *args):
    try:
        threading.Thread(target=function, args=args, daemon=True).start()
    except RuntimeError:  # an interpreter may allow only those for which it waits at its end
        threading.Thread(target=function, args=args, daemon=False).start()


async def _in_thread(end, call):
    """What the call returns, or raises.  It gives up within a moment after its handle is closed."""
    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()
    handle = end._fork()
    _lent[handle] = end
    try:
        _start(_run, call, handle, loop, future)
    except BaseException:
        del _lent[handle]
        raise
    try:
        result, failure = await asyncio.shield(future)
    except BaseException as failure:
        _close(handle)
        # Who cancels may use the buffer again; but a second cancel() is heeded at once.
        if isinstance(failure, asyncio.CancelledError):
            await asyncio.wait([future], timeout=1)
        raise
    try:
        if failure:
            raise failure
        return result
    finally:
        del failure, future  # they refer to the traceback, and that to this frame
