# SPDX-License-Identifier: MIT
"""Waiting in asyncio: the loop watches the descriptor of an end; sending that must wait goes to a thread."""

import asyncio
import threading
import weakref

# Of each loop, who waits for which descriptor: {descriptor: [futures]}.
_waiters = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def _awake(futures):
    for future in futures:
        if not future.done():
            future.set_result(None)


def _ready(loop, fd):
    futures = _waiters.get(loop, {}).pop(fd, [])
    loop.remove_reader(fd)
    _awake(futures)


async def _readable(fd):
    loop = asyncio.get_running_loop()
    with _lock:
        waiting = _waiters.setdefault(loop, {})
    futures = waiting.get(fd)
    if futures is None:
        loop.add_reader(fd, _ready, loop, fd)
        futures = waiting[fd] = []
    future = loop.create_future()
    futures.append(future)
    try:
        await future
    finally:
        if future in futures:
            futures.remove(future)
        if not futures and waiting.get(fd) is futures:
            del waiting[fd]
            loop.remove_reader(fd)


def wake():
    """A handle was closed: whoever waits looks again."""
    if not _waiters:
        return
    with _lock:
        loops = list(_waiters)
    for loop in loops:
        if not loop.is_closed():
            loop.call_soon_threadsafe(_wake_all, loop)


def _wake_all(loop):
    for fd in list(_waiters.get(loop, {})):
        _ready(loop, fd)


async def receive(end, call):
    while True:
        try:
            return call(timeout=0)
        except TimeoutError:
            await _readable(end.fileno())


async def accept(listener):
    while True:
        try:
            return listener.accept(timeout=0)
        except TimeoutError:
            await _readable(listener.fileno())


def _send_in_thread(end, part, given_up):
    # A long message that is given up starts again, so the time for it grows.
    most = 0.2 if len(part) <= end.buffer_size or end.object_size else 1 + len(part) / (16 << 20)
    while not given_up.is_set():
        try:
            return end.send_bytes(part, timeout=most)
        except TimeoutError:
            most *= 1 if most == 0.2 else 2


async def send(end, buf, offset=0, size=None):
    with memoryview(buf) as whole, whole.cast("B") as view:
        part = view[offset:] if size is None else view[offset : offset + size]
        if offset < 0 or offset > len(view) or (size is not None and len(part) != size):
            raise ValueError("offset and size lie outside of the buffer")
        with part:
            await _send(end, part)


async def _send(end, part):
    if end.object_size or len(part) <= end.buffer_size:
        try:
            return end.send_bytes(part, timeout=0)
        except TimeoutError:
            pass
    given_up = threading.Event()
    thread = asyncio.get_running_loop().run_in_executor(None, _send_in_thread, end, part, given_up)
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        given_up.set()
        # The thread still has the buffer.
        await asyncio.wait([thread])
        if not thread.cancelled():
            thread.exception()
        raise
