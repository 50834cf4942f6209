# SPDX-License-Identifier: MIT
"""Contexts of multiprocessing whose pipes and queues are those of this package."""

import multiprocessing
from multiprocessing import context


class _Context:
    """What differs from the context of multiprocessing with the same start method."""

    def Pipe(self, duplex=True):
        """Two ends connected by a pipe."""
        from . import Pipe

        return Pipe(duplex=bool(duplex))

    def Queue(self, maxsize=0):
        """A queue with room for maxsize items; 0 means as many as its buffer holds."""
        from . import Queue

        return Queue(maxsize)

    def JoinableQueue(self, maxsize=0):
        """A Queue with task_done() and join()."""
        from . import JoinableQueue

        return JoinableQueue(maxsize)

    def SimpleQueue(self):
        """A queue with put() and get()."""
        from . import SimpleQueue

        return SimpleQueue()

    def get_context(self, method=None):
        """The context of another start method, with the same pipes and queues; None is this context."""
        return self if method is None else get_context(method)


class ForkContext(_Context, context.ForkContext):
    pass


class SpawnContext(_Context, context.SpawnContext):
    pass


class ForkServerContext(_Context, context.ForkServerContext):
    pass


_contexts = {"fork": ForkContext(), "spawn": SpawnContext(), "forkserver": ForkServerContext()}


def get_context(method=None):
    """A context of multiprocessing whose Pipe, Queue, JoinableQueue and SimpleQueue are ours.

    method is "fork", "spawn" or "forkserver"; None is what multiprocessing.get_start_method() says.
    All else is that of multiprocessing; a Pool uses our queues.  Pass the context to whatever takes
    one, such as concurrent.futures.ProcessPoolExecutor(mp_context=get_context("spawn")).
    """
    if method is None:
        method = multiprocessing.get_start_method()
    try:
        found = _contexts[method]
    except KeyError:
        raise ValueError(f"cannot find context for {method!r}") from None
    found._check_available()
    return found
