# SPDX-License-Identifier: MIT
"""Passing an end to another process by means of multiprocessing.

An end is three descriptors, which travel through a socket.  So the pickle
names one descriptor, the parcel: a socket in which the end waits to be received.
While it waits there it is alive, even if the handle that was pickled is closed.

multiprocessing only notes the number of a descriptor, and duplicates it when it
starts the process.  The parcel must stay open here until then, and no longer: an
end must die with a process that never received it.  Nothing tells us when the
process was started, and the program may make no further call of this package.
So a thread looks for it.
"""

import copyreg
import fcntl
import functools
import os
import sys
import threading
import time
import weakref
from multiprocessing import reduction

from . import _core  # type: ignore[attr-defined]

# The parcels that are open: {a weak reference to the Popen that they are for: (thread, [descriptors])}.
_parcels: dict = {}
# Held during a fork, so that a child knows all parcels.  Re-entrant, because a signal handler may start a process.
_lock = threading.RLock()


# The packages that spawn processes as multiprocessing does, each with a context and a pickler of its own.
_PACKAGES = ("multiprocessing", "multiprocess", "billiard")


def install(end_type):
    reduction.register(end_type, _reduce)
    for name in _PACKAGES[1:]:
        other = sys.modules.get(name + ".reduction")
        if other:
            other.ForkingPickler.register(end_type, functools.partial(_reduce, sharer=other))
    # send() can then pickle what multiprocessing can pickle, such as its connections.
    _core.set_reducers(reduction.ForkingPickler._extra_reducers, copyreg.dispatch_table)
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_drop_all)


def _spawning():
    """(reduction module, Popen) of the package that is spawning a process; (that of multiprocessing, None) if none is."""
    for name in _PACKAGES:
        other = sys.modules.get(name + ".context")
        popen = other and other.get_spawning_popen()
        if popen is not None:
            return sys.modules.get(name + ".reduction", reduction), popen
    return reduction, None


def is_spawning():
    return _spawning()[1] is not None


def _reduce(end, sharer=reduction):
    return _rebuild, (type(end), _pass_on(end._parcel, sharer), end.max_message, end.name)


def reduce_spawning(end):
    """What __reduce_ex__ returns, for any pickler, while a process is being spawned; else None."""
    return _reduce(end) if is_spawning() else None


def _pass_on(make, sharer=reduction):
    """What to pickle for the descriptor that make() opens.  It stays open until the process has its own."""
    spawner, popen = _spawning()
    if popen is not None:
        sharer = spawner
    owner = object() if popen is None else weakref.ref(popen)
    with _lock:
        first = owner not in _parcels
        fd = make()
        _parcels.setdefault(owner, (threading.get_ident(), []))[1].append(fd)
    try:
        wrapper = sharer.DupFd(fd)
    except BaseException:
        _close(owner)
        raise
    if popen is None:
        _close(owner)  # the resource sharer has made a duplicate
    elif first:
        _close_when_started(popen, owner)
    return wrapper


class Passed:
    """Pickles a descriptor for another process."""

    def __init__(self, fd):
        self._fd = fd

    def __reduce__(self):
        # Not os.dup, which may return 0, 1 or 2 if the standard streams are closed.
        return _Arrived, (_pass_on(lambda: fcntl.fcntl(self._fd, fcntl.F_DUPFD_CLOEXEC, 3)),)


class _Arrived:
    """What a Passed is in the other process.  detach(), once, returns a descriptor that the caller must close."""

    def __init__(self, wrapper):
        self.detach = wrapper.detach


def _rebuild(end_type, wrapper, max_message, name):
    fd = wrapper.detach()
    try:
        end = end_type.recv_from(fd)
    finally:
        os.close(fd)
    end.max_message = max_message
    end.name = name
    return end


def _close(owner):
    with _lock:
        for fd in _parcels.pop(owner, (None, ()))[1]:
            os.close(fd)


def _close_when_started(popen, owner):
    try:
        threading.Thread(target=_watch, args=(owner,), daemon=True).start()
    except RuntimeError:  # there is no thread left, or the interpreter ends and allows none
        weakref.finalize(popen, _close, owner)


def _watch(owner):
    delay = 0.001
    while not _is_started(owner()):
        time.sleep(delay)
        # The longer the start takes, the less a short delay matters.
        delay = min(1.25 * delay, 0.2)
    _close(owner)


def _is_started(popen):
    """Whether the process was started; or its Popen is gone, because it could not be started."""
    return popen is None or getattr(popen, "pid", None) is not None


def _drop_all():
    """Close the parcels in a forked child, because they are the parent's.

    If the thread that forked is starting a process, this child may become that process, and keeps the
    parcels for it: joblib's loky forks, and then executes Python anew.
    """
    for owner, (thread, _) in list(_parcels.items()):
        if thread != threading.get_ident() or _is_started(owner()):
            _close(owner)
    _lock.release()
