# SPDX-License-Identifier: MIT
"""Makes the pipes and queues of multiprocessing ours, in each process of a run of CPython's own tests."""

import multiprocessing.context

from buffered_pipe import _context

for _name in ("Pipe", "Queue", "JoinableQueue", "SimpleQueue"):
    setattr(multiprocessing.context.BaseContext, _name, vars(_context._Context)[_name])
    setattr(multiprocessing, _name, getattr(multiprocessing.context._default_context, _name))
