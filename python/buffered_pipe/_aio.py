# SPDX-License-Identifier: MIT
"""Waiting in asyncio: the loop watches the descriptor of an end.

A send that finds no room continues in a thread of its own, with a handle of its
own.

Only functions that wait import asyncio, because the import takes longer than that
of the rest of the package.
"""

import fcntl
import operator
import os
import threading
import time
import weakref

from . import _core  # type: ignore[attr-defined]

# The futures of those that wait, by loop.  A future refers to its loop, so the references to futures are weak.
_waiters: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_lock = threading.RLock()  # re-entrant, because a signal handler may close an end
# The handles that threads use: {handle: the end that it is a fork of}.
_lent: dict = {}


def _awake(future):
    if not future.done():
        future.set_result(None)


async def _readable(thing):
    """Wait until there may be something to receive, or a handle was closed."""
    import asyncio

    loop = asyncio.get_running_loop()
    future = loop.create_future()
    with _lock:
        waiting = _waiters.setdefault(loop, weakref.WeakSet())
    waiting.add(future)
    fd = -1
    try:
        # A duplicate, because the number of a closed descriptor may be another file's before the loop forgets it.
        # Above 2, because standard streams may be closed.
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
    """How long to pause before the next wait, if the one that began at 'begin' found nothing.

    While somebody else looks at a message in place, the descriptor is readable, but there is nothing to receive.
    """
    return 0 if time.monotonic() - begin > 0.001 else min(2 * delay + 0.0002, 0.02)


def _close(handle):
    """Close the handle of a thread, without a call of wake()."""
    (_core.End if isinstance(handle, _core.End) else _core.Queue).close(handle)


def wake():
    """Make everything that waits look again, because a handle was closed."""
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
    """Forget the threads, which the child does not have, and the loops, which are the parent's."""
    global _lock
    _lock = threading.RLock()
    _waiters.clear()
    _core.leave_views_behind()
    while _lent:
        _close(_lent.popitem()[0])


os.register_at_fork(after_in_child=_after_fork)


async def _try(attempt, nothing, end):
    """Return what the attempt returns.  It raises 'nothing' if there is nothing to receive."""
    import asyncio

    delay = 0
    while True:
        try:
            return attempt()
        except BlockingIOError:
            # A part of a long message has come.  So the wait found something, and the rest will come soon.
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
    """Return a memoryview of the part, with bytes as its items."""
    offset = operator.index(offset)
    size = None if size is None else operator.index(size)
    with memoryview(buf) as whole:
        # A buffer that is empty in one of several dimensions, or is not in C order, cannot be cast.
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
        del future, failure  # the traceback of the failure refers to this frame


def _start(function, *args):
    try:
        threading.Thread(target=function, args=args, daemon=True).start()
    except RuntimeError:  # a sub-interpreter may not allow daemon threads
        threading.Thread(target=function, args=args, daemon=False).start()


async def _in_thread(end, call):
    """Run the call in a thread.  The call gives up within a moment after its handle is closed."""
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
        # After a cancellation the caller may use the buffer again, so wait for the thread; a second cancel() ends that.
        if isinstance(failure, asyncio.CancelledError):
            await asyncio.wait([future], timeout=1)
        raise
    try:
        if failure:
            raise failure
        return result
    finally:
        del failure, future  # they refer to the traceback, which refers to this frame
