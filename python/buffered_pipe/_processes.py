# SPDX-License-Identifier: MIT
"""How an end goes to another process by multiprocessing's own means.

An end is three descriptors, which travel through a socket.  So the pickle
names one descriptor: a socket in which the end waits to be taken out.  While
it waits there it is alive, whatever becomes of the handle that was pickled.
"""

import copyreg
import os
import threading
import weakref
from multiprocessing import context, reduction

from . import _aio, _core

# The parcels for processes that are being started: [(weak reference to the Popen, descriptor)].
# multiprocessing only notes the number of a descriptor, and opens its own when it starts the process.
_waiting = []
_sweeping = threading.Lock()


def install(end_type):
    reduction.register(end_type, _reduce)
    # Objects are pickled with what multiprocessing knows how to pickle, such as its own connections.
    _core.set_reducers(reduction.ForkingPickler._extra_reducers, copyreg.dispatch_table)
    os.register_at_fork(after_in_child=_drop_all)


def _reduce(end):
    _sweep()
    popen = context.get_spawning_popen()
    fd = end._parcel()
    try:
        wrapper = reduction.DupFd(fd)
    except BaseException:
        os.close(fd)
        raise
    if popen is None:
        os.close(fd)  # the resource sharer has made its own
    else:
        _waiting.append((weakref.ref(popen), fd))
        _core.set_idle(_sweep)
        _aio.sweep_later(_sweep)
    return _rebuild, (type(end), wrapper)


def _rebuild(end_type, wrapper):
    fd = wrapper.detach()
    try:
        return end_type.recv_from(fd)
    finally:
        os.close(fd)


def _sweep():
    """Closes the parcels of processes that have started: an end dies with a process that never took it.

    Called whenever a call finds nothing in a pipe, so in any thread, and in the handlers of signals.
    Whether any are left.
    """
    if not _sweeping.acquire(blocking=False):
        return True
    try:
        for parcel in list(_waiting):
            ref, fd = parcel
            popen = ref()
            if popen is None or getattr(popen, "pid", None) is not None:
                _waiting.remove(parcel)
                os.close(fd)
    finally:
        _sweeping.release()
    if not _waiting:
        _core.set_idle(None)
        if _waiting:  # since then, of another thread
            _core.set_idle(_sweep)
    return bool(_waiting)


def _drop_all():
    global _sweeping
    _sweeping = threading.Lock()
    while _waiting:
        os.close(_waiting.pop()[1])
    _core.set_idle(None)
