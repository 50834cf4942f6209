# SPDX-License-Identifier: MIT
"""Message pipes through shared memory, for threads and processes on one Linux machine.

    from buffered_pipe import Pipe

    receiver, sender = Pipe(buffer_size=65536)
    sender.send({"hello": "world"})
    receiver.recv()

Objects are pickles: receive them only from those you trust.

Pass an end to other processes as an argument of multiprocessing.Process, with
any start method.  Any number of processes and threads may use it at once.
EOFError comes only if each process closes the ends that it does not use.
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
        """Statistics of the pipe: how full it is, and what both sides have done since it was made.

        This takes no lock, and may be called at any time, even while other threads use the end.  The
        counts of the other side are its own, and nothing checks them.
        """
        return _stats.of_end(self)

    async def async_send(self, obj, /):
        """send() for asyncio.  If it is cancelled, the object may have been sent or not.

        If the object cannot be sent at once, a thread sends it as soon as there is room.
        """
        await _aio.send(self, self._dump(obj))

    async def async_send_bytes(self, buf, /, offset=0, size=None):
        """send_bytes() for asyncio.  If it is cancelled, the message may have been sent or not.

        If the message cannot be sent at once, a thread sends it as soon as there is room.  After a
        cancellation the thread releases the buffer within a moment.
        """
        await _aio.send(self, buf, offset, size)

    async def async_recv(self):
        """recv() for asyncio.  If it is cancelled, nothing is lost.

        The part of a long message that has come is kept for the next call.
        """
        return self._load(await _aio.receive(self, True))

    async def async_recv_bytes(self):
        """recv_bytes() for asyncio.  If it is cancelled, nothing is lost.

        The part of a long message that has come is kept for the next call.
        """
        return await _aio.receive(self, False)


def _check_policy(policy):
    if policy is None or callable(policy):
        return policy
    raise TypeError(f"policy must be None or callable, not {policy!r}")


class Client(_collections.namedtuple("Client", "pid uid gid pidfd waiting")):
    """A client that wants to connect, as the policy of listen() gets it.

    pid, uid and gid are those of the process that connects, as the kernel saw it; pid is 0 if the
    process is not visible from here.  pidfd is a descriptor of that process, or -1 before Linux 6.5;
    it is valid only during the call.  waiting is how many connections of this user were let in and
    are not accepted yet.
    """

    __slots__ = ()


class Listener(_core.Listener):
    __doc__ = _core.Listener.__doc__
    __slots__ = ("__weakref__", "_policy")

    @property
    def policy(self):
        """The function that is asked about each Client, see listen(); None lets all clients in."""
        return self._policy

    @policy.setter
    def policy(self, policy):
        self._policy = _check_policy(policy)

    def close(self):
        super().close()
        _aio.wake()

    close.__doc__ = _core.Listener.close.__doc__

    def accept(self, *, timeout=None):
        """Wait for the next program that connects, and return an end; the program has the other end."""
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

    It holds buffer_size bytes of messages, each of which counts with 8 bytes more.  A longer message
    streams through it.  minimum_write, SMT_recv, SMT_send and polling are hints that this
    implementation does not need.

    With a buffer_size, duplex is False by default.  Without one, the call is that of
    multiprocessing.Pipe: the first argument may be duplex, which is True by default, and the buffer
    has 65536 bytes.

    The name is shown in repr(), and as memfd:NAME in /proc/PID/maps.  An end receives messages of at
    most max_message bytes, by default half of the machine's memory; messages of up to buffer_size
    bytes are always received.  With handover=False each end has one descriptor instead of three, and
    cannot be pickled; a forked process still has it.
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
    """A pipe that holds object_count messages of exactly object_size bytes each.

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
    """Return a Listener at an address, to which other programs, in any language, can connect.

    The address is "/path", "./path", "@name" (abstract), "fd:N", "systemd:" or "systemd:NAME".
    mode is "r" if this side receives, "w" if it sends and "rw" if both sides do both.  None takes what
    fits the "r" or "w" of the other side; if both sides have None, the side that accepts receives.
    The sizes are limits and defaults for clients; an object_size makes the pipes static.  close()
    removes a path.

    size_limit is how large a pipe the other side may choose, in bytes, if that is more than the size
    given here.  permissions are those of the socket file of a path, whatever the umask; a client needs
    the permission to write.  policy(client) is asked about each Client before anything is made for it,
    in the thread that accepts; listener.policy is the same function, and can be changed.  A client
    that is not let in gets a PermissionError.  If the policy raises an exception, the client is not
    let in, and accept() raises the exception.
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

    Waits until the listener accepts.  If nobody listens, it raises FileNotFoundError or
    ConnectionRefusedError, or waits for a listener if wait_for_listener is true.  mode is as in
    listen(), and the two must fit: "rw" and "rw"; "r" and "w" or None; "w" and "r" or None.  A size of
    0 takes that of the listener; size_limit is how large a pipe the listener may choose, in bytes, by
    default 16 MiB.
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

    An end that receives is ready when there is a message or the stream has ended; an end that only
    sends, when there is room.  The list is empty when the time is up.  Ends that receive can be mixed
    with other objects that multiprocessing.connection.wait takes; ends that only send cannot.
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
        # In slices, to notice when a handle is closed.
        descriptors = [_descriptor(each) for each in objects]
        # Each descriptor once: two handles of one end have the same descriptor.
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
