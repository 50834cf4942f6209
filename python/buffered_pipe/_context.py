# SPDX-License-Identifier: MIT
"""Contexts of multiprocessing whose pipes and queues are those of this package."""

import multiprocessing
from multiprocessing import context


class _Context:
    """What differs from multiprocessing's own context of the same start method."""

    def Pipe(self, duplex=True):
        """Two ends connected by a pipe."""
        from . import Pipe

        return Pipe(duplex=bool(duplex))

    def Queue(self, maxsize=0):
        """A queue with room for maxsize items; 0: for as many as its buffer holds."""
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
        """The context of another start method, with the same pipes and queues; this one if None."""
        return self if method is None else get_context(method)


class ForkContext(_Context, context.ForkContext):
    pass


class SpawnContext(_Context, context.SpawnContext):
    pass


class ForkServerContext(_Context, context.ForkServerContext):
    pass


_contexts = {"fork": ForkContext(), "spawn": SpawnContext(), "forkserver": ForkServerContext()}


def get_context(method=None):
    """A context of multiprocessing whose Pipe, Queue, JoinableQueue, SimpleQueue and Pool are ours.

    method is "fork", "spawn" or "forkserver"; None is what multiprocessing.get_start_method() says.
    All else in it is multiprocessing's own.  Give it to what takes a context, such as
    concurrent.futures.ProcessPoolExecutor(mp_context=get_context("spawn")).
    """
    if method is None:
        method = multiprocessing.get_start_method()
    try:
        found = _contexts[method]
    except KeyError:
        raise ValueError(f"cannot find context for {method!r}") from None
    found._check_available()
    return found
