# SPDX-License-Identifier: MIT
"""Message pipes through shared memory, for threads and processes on one Linux machine.

    from buffered_pipe import Pipe

    receiver, sender = Pipe(buffer_size=65536)
    sender.send({"hello": "world"})
    receiver.recv()

Objects are pickles: receive them only from those you trust.

An end goes to other processes as an argument of multiprocessing.Process, with
any start method, and any number of processes and threads may use it at once.
For EOFError to come, each process must close the ends that it does not use.
"""

import collections as _collections
import numbers as _numbers
import operator as _operator
import time as _time

from . import _aio
from . import _core
from . import _processes
from . import _stats
from ._context import get_context
from ._queues import JoinableQueue, Queue, SimpleQueue
from ._core import MessageView, __version__
from ._stats import RingStats, SideStats, Stats

__all__ = [
    "Client",
    "End",
    "Generic_Pipe",
    "JoinableQueue",
    "Listener",
    "MessageView",
    "Pipe",
    "Queue",
    "RingStats",
    "SideStats",
    "SimpleQueue",
    "Static_Pipe",
    "Stats",
    "connect",
    "get_context",
    "listen",
    "wait",
]


class End(_core.End):
    __doc__ = _core.End.__doc__
    __slots__ = ("__weakref__",)

    def close(self):
        super().close()
        _aio.wake()

    close.__doc__ = _core.End.close.__doc__

    def __reduce_ex__(self, protocol):
        return _processes.reduce_spawning(self) or super().__reduce_ex__(protocol)

    def stats(self):
        """What goes on in the pipe: how full it is, and what both sides have done since it was made.

        It takes no lock, and any handle may be asked at any moment, also beside other threads that use
        the end.  What the other side says of itself can only be believed, or not.
        """
        return _stats.of_end(self)

    async def async_send(self, obj, /):
        """send() for asyncio.  If it is cancelled, the object may have been sent or not.

        An object that cannot go at once goes from a thread, as soon as it can.
        """
        await _aio.send(self, self._dump(obj))

    async def async_send_bytes(self, buf, /, offset=0, size=None):
        """send_bytes() for asyncio.  If it is cancelled, the message may have been sent or not.

        A message that cannot go at once goes from a thread, which lets go of the buffer a moment
        after a cancellation.
        """
        await _aio.send(self, buf, offset, size)

    async def async_recv(self):
        """recv() for asyncio.  If it is cancelled, nothing is lost.

        What has come of a message that is longer than the buffer is kept for the next call.
        """
        return self._load(await _aio.receive(self, True))

    async def async_recv_bytes(self):
        """recv_bytes() for asyncio.  If it is cancelled, nothing is lost.

        What has come of a message that is longer than the buffer is kept for the next call.
        """
        return await _aio.receive(self, False)


def _check_policy(policy):
    if policy is None or callable(policy):
        return policy
    raise TypeError(f"policy must be None or callable, not {policy!r}")


class Client(_collections.namedtuple("Client", "pid uid gid pidfd waiting")):
    """Who wants to come in, as a policy of listen() is asked.

    pid, uid and gid are those of the process that connects, as the kernel saw it; a pid of 0 is not
    visible from here.  pidfd is a descriptor of that process, -1 before Linux 6.5; it is valid during
    the call.  waiting is how many connections of this user were let in and not accepted yet.
    """

    __slots__ = ()


class Listener(_core.Listener):
    __doc__ = _core.Listener.__doc__
    __slots__ = ("__weakref__", "_policy")

    @property
    def policy(self):
        """What is asked about each Client that wants to come in, as listen() says; None lets all in."""
        return self._policy

    @policy.setter
    def policy(self, policy):
        self._policy = _check_policy(policy)

    def close(self):
        super().close()
        _aio.wake()

    close.__doc__ = _core.Listener.close.__doc__

    def accept(self, *, timeout=None):
        """Wait for the next program that connects, and return the end that speaks with it."""
        policy = self._policy
        return self._accept(End, timeout, policy and (lambda *client: policy(Client(*client))))

    async def async_accept(self):
        """accept() for asyncio."""
        return await _aio.accept(self)


def _positive(name, value):
    try:
        value = _operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {value!r}") from None
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
    return value


def _check_hints(**hints):
    for name, value in hints.items():
        if not isinstance(value, _numbers.Real):
            raise TypeError(f"{name} must be a number, not {value!r}")


_BUFFER_SIZE = 65536


def Generic_Pipe(buffer_size=None, minimum_write=64, SMT_recv=16, SMT_send=16, polling=0.1, duplex=None, *, name=None, max_message=None, handover=True):
    """A pipe for messages of any length: (receiving end, sending end), or two ends that do both if duplex.

    It holds buffer_size bytes of messages, each of which counts as 8 bytes more, and longer messages
    stream through.  minimum_write, SMT_recv, SMT_send and polling are hints that this implementation
    does not need.

    Without a buffer_size it is called as multiprocessing.Pipe is: the first argument may be duplex,
    which then is True if it is not given, and the buffer has 65536 bytes.  With one, duplex is
    False if it is not given.

    The name is shown in repr(), and as memfd:NAME in /proc/PID/maps.  An end receives messages of
    max_message bytes at most, or of buffer_size, if that is more; without it, of half of the
    machine's memory.  With handover=False each end has one descriptor and not three, and cannot
    be pickled; a forked process has it all the same.
    """
    _check_hints(minimum_write=minimum_write, SMT_recv=SMT_recv, SMT_send=SMT_send, polling=polling)
    if isinstance(buffer_size, bool):
        if duplex is not None:
            raise TypeError("duplex was given twice")
        buffer_size, duplex = None, buffer_size
    if duplex is None:
        duplex = buffer_size is None
    if buffer_size is None:
        buffer_size = _BUFFER_SIZE
    return End._pair(
        buffer_size=_positive("buffer_size", buffer_size),
        duplex=duplex,
        name=name,
        max_message=max_message,
        handover=handover,
    )


Pipe = Generic_Pipe


def Static_Pipe(object_size, object_count, SMT_recv=16, SMT_send=16, polling=0.1, duplex=False, *, name=None, handover=True):
    """A pipe for messages of exactly object_size bytes, of which it holds object_count.

    Both send() and send_bytes() take bytes-like objects, and recv() and recv_bytes() return bytes.
    SMT_recv, SMT_send and polling are hints that this implementation does not need.
    """
    _check_hints(SMT_recv=SMT_recv, SMT_send=SMT_send, polling=polling)
    return End._pair(
        object_size=_positive("object_size", object_size),
        object_count=_positive("object_count", object_count),
        duplex=duplex,
        name=name,
        handover=handover,
    )


def listen(address, mode=None, *, buffer_size=0, object_size=0, object_count=0, size_limit=0, permissions=None, policy=None):
    """A Listener at an address, to which other programs, in any language, connect.

    The address is "/path", "./path", "@name" (abstract), "fd:N", "systemd:" or "systemd:NAME".
    mode is "r" if this side receives, "w" if it sends and "rw" if both do both; with None, what
    fits the other side's "r" or "w", and if both have None, the side that accepts receives.  The sizes
    are limits and defaults for those who connect; an object_size makes the pipes static.  close()
    removes a path.

    size_limit is how large a pipe the other side may choose, in bytes, if that is more than the
    size that is named here.  permissions are those of the socket file of a path, whatever the umask: to
    connect one must be allowed to write.  policy(client), which is listener.policy from then on, is
    asked about each Client before anything is made for it, in the thread that accepts; who is not let
    in gets a PermissionError.  If it raises an exception the client is not let in, and accept() raises
    it.
    """
    _check_policy(policy)
    listener = _core.listen(
        Listener,
        address,
        mode=mode,
        buffer_size=buffer_size,
        object_size=object_size,
        object_count=object_count,
        size_limit=size_limit,
        permissions=permissions,
    )
    listener._policy = policy
    return listener


def connect(address, mode=None, *, buffer_size=0, object_size=0, object_count=0, size_limit=0, wait_for_listener=False, timeout=None):
    """Connect to a program that listens at the address, and return this side's end.

    Waits until the listener accepts, but not for a listener, unless wait_for_listener is true:
    FileNotFoundError and ConnectionRefusedError say that there is none.  mode is as in listen(), and
    must fit: "rw" to "rw", "r" to "w" or None, "w" to "r" or None.  A size of 0 takes what the
    listener has; size_limit is how large a pipe it may choose, in bytes, by default 16 MiB.
    """
    return _core.connect(
        End,
        address,
        mode=mode,
        buffer_size=buffer_size,
        object_size=object_size,
        object_count=object_count,
        size_limit=size_limit,
        wait_for_listener=wait_for_listener,
        timeout=timeout,
    )


def wait(object_list, timeout=None):
    """Wait until some of the objects are ready, and return a list of these.

    An end that receives is ready when there is a message or the end of the stream; an end that only
    sends when there is room.  The list is empty when the time is up.  Among ends that receive, but not
    among those that only send, other objects that multiprocessing.connection.wait takes may be waited
    for.
    """
    objects = list(object_list)
    if objects and all(isinstance(each, End) for each in objects):
        return _core.wait_ends(objects, timeout)
    return _wait_mixed(objects, timeout)


_SLICE = 0.2


def _descriptor(each):
    return each.fileno() if hasattr(each, "fileno") else each


def _wait_mixed(objects, timeout):
    from multiprocessing import connection

    timeout = _core.seconds(timeout)
    deadline = None if timeout is None else _time.monotonic() + timeout
    delay = 0
    while True:
        begin = _time.monotonic()
        left = None if deadline is None else max(0, deadline - begin)
        # In slices, to notice a handle that is closed meanwhile.
        descriptors = [_descriptor(each) for each in objects]
        # Each once: two handles of one end have the same.
        ready = connection.wait(set(descriptors), _SLICE if left is None else min(left, _SLICE))
        if any(isinstance(each, End) and each.closed for each in objects):
            raise OSError("handle is closed")
        # Another process may have taken the message that made a descriptor ready.
        ready = [
            each
            for each, descriptor in zip(objects, descriptors)
            if descriptor in ready and (not isinstance(each, End) or each.poll(0))
        ]
        if ready or left == 0:
            return ready
        delay = _aio.backoff(delay, begin)
        _time.sleep(delay if left is None else min(delay, left))


_processes.install(End)
