# SPDX-License-Identifier: MIT
"""How an end goes to another process by multiprocessing's own means.

An end is three descriptors, which travel through a socket.  So the pickle
names one descriptor: a socket in which the end waits to be taken out.  While
it waits there it is alive, whatever becomes of the handle that was pickled.

multiprocessing only notes the number of a descriptor, and opens its own when it
starts the process.  Until then the parcel stays open here, and no longer: an end
must die with a process that never took it.  Nobody tells us when that is, and
the program may make no further call, so a thread looks for it.
"""

import copyreg
import os
import threading
import time
import weakref
from multiprocessing import context, reduction

from . import _core  # type: ignore[attr-defined]

# The parcels that are open: {a weak reference to the Popen that they are for: [descriptors]}.
_parcels: dict = {}
# Held by fork(), so that a child knows of all; and the handler of a signal may start a process, too.
_lock = threading.RLock()


def install(end_type):
    reduction.register(end_type, _reduce)
    # Objects are pickled with what multiprocessing knows how to pickle, such as its own connections.
    _core.set_reducers(reduction.ForkingPickler._extra_reducers, copyreg.dispatch_table)
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_drop_all)


def _reduce(end):
    return _rebuild, (type(end), _pass_on(end._parcel))


def _pass_on(make):
    """What to pickle for a descriptor, which make() opens: it is open until the process has its own."""
    popen = context.get_spawning_popen()
    owner = object() if popen is None else weakref.ref(popen)
    with _lock:
        first = owner not in _parcels
        fd = make()
        _parcels.setdefault(owner, []).append(fd)
    try:
        wrapper = reduction.DupFd(fd)
    except BaseException:
        _close(owner)
        raise
    if popen is None:
        _close(owner)  # the resource sharer has made its own
    elif first:
        _close_when_started(popen, owner)
    return wrapper


class Passed:
    """A descriptor that goes to another process."""

    def __init__(self, fd):
        self._fd = fd

    def __reduce__(self):
        return _Arrived, (_pass_on(lambda: os.dup(self._fd)),)


class _Arrived:
    """What Passed is in that process: once, detach() gives a descriptor that the caller closes."""

    def __init__(self, wrapper):
        self.detach = wrapper.detach


def _rebuild(end_type, wrapper):
    fd = wrapper.detach()
    try:
        return end_type.recv_from(fd)
    finally:
        os.close(fd)


def _close(owner):
    with _lock:
        for fd in _parcels.pop(owner, ()):
            os.close(fd)


def _close_when_started(popen, owner):
    try:
        threading.Thread(target=_watch, args=(owner,), daemon=True).start()
    except RuntimeError:  # no thread is left, or wanted any more at the end of the interpreter
        weakref.finalize(popen, _close, owner)


def _watch(owner):
    delay = 0.001
    while not _is_started(owner()):
        time.sleep(delay)
        # The longer it takes, the less it matters.
        delay = min(1.25 * delay, 0.2)
    _close(owner)


def _is_started(popen):
    """Or is gone: it could not be started."""
    return popen is None or getattr(popen, "pid", None) is not None


def _drop_all():
    """In a forked child: the parcels are the parent's."""
    while _parcels:
        _close(next(iter(_parcels)))
    _lock.release()
