# SPDX-License-Identifier: MIT
"""The part of python_bench.py that measures queues: those of buffered_pipe against multiprocessing's.

The processes of a measurement wait at a barrier; it begins when the first of them goes on, and ends when the
last item was taken.
Producers and consumers of a pair are pinned, each to one CPU; crowds and pools run wherever the system puts them.
"""

import concurrent.futures
import mmap
import multiprocessing
import os
import time
import traceback

import buffered_pipe

BATCH = 100
CROWD = 4


class Bench:
    """What python_bench gives: the CPUs, and how to pin to one of them."""

    def __init__(self, cpus, pin):
        self.cpus = cpus
        self.pin = pin

    def start(self, cpu, function, *args):
        pid = os.fork()
        if pid:
            return pid
        failed = True
        try:
            os.sched_setaffinity(0, self.cpus)
            if cpu is not None:
                self.pin(cpu)
            function(*args)
            failed = False
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(failed)

    def unpin(self):
        os.sched_setaffinity(0, self.cpus)


class Clock:
    """When each of several processes began and ended."""

    def __init__(self, processes):
        self.barrier = multiprocessing.Barrier(processes)
        self.times = memoryview(mmap.mmap(-1, 16 * processes)).cast("d")

    def begin(self, number):
        self.barrier.wait()
        self.times[2 * number] = time.monotonic()

    def end(self, number):
        self.times[2 * number + 1] = time.monotonic()

    def took(self):
        return max(self.times[1::2]) - min(self.times[::2])


def fill(items, clock, number, count, many):
    clock.begin(number)
    if many:
        for begin in range(0, count, BATCH):
            items.put_many(range(begin, min(begin + BATCH, count)))
    else:
        put = items.put
        for each in range(count):
            put(each)
    clock.end(number)
    # What multiprocessing's queue has not sent by then would be lost.
    items.close()
    items.join_thread()


def drain(items, clock, number, count, many):
    clock.begin(number)
    if many:
        while count > 0:
            count -= len(items.get_many(min(BATCH, count)))
    else:
        get = items.get
        for _ in range(count):
            get()
    clock.end(number)


def stream(bench, make, count, workers=1, many=False):
    """Items a second."""
    items = make()
    each = max(1, count // workers)
    clock = Clock(2 * workers)
    pids = []
    for number in range(2 * workers):
        cpu = number if workers == 1 else None
        pids.append(bench.start(cpu, (drain, fill)[number % 2], items, clock, number, each, many))
    wait_for(pids)
    items.close()
    return workers * each / clock.took()


def wait_for(pids):
    for pid in pids:
        if os.waitpid(pid, 0)[1]:
            raise SystemExit("a child failed")


def round_trips(bench, make, count):
    """Round trips a second, through two queues."""
    there, back = make(), make()

    def echo():
        for _ in range(count):
            back.put(there.get())
        back.close()
        back.join_thread()

    pid = bench.start(1, echo)
    begin = time.perf_counter()
    for each in range(count):
        there.put(each)
        back.get()
    took = time.perf_counter() - begin
    wait_for([pid])
    for each in (there, back):
        each.close()
    return count / took


def nothing(_):
    pass


def tasks(bench, context, count):
    """Empty tasks a second, through a ProcessPoolExecutor."""
    with concurrent.futures.ProcessPoolExecutor(2, context, bench.unpin) as pool:
        list(pool.map(nothing, range(20)))
        begin = time.perf_counter()
        list(pool.map(nothing, range(count)))
        return count / (time.perf_counter() - begin)


def pool_tasks(bench, context, count):
    """The same, through a Pool, one by one."""
    with context.Pool(2, bench.unpin) as pool:
        pool.map(nothing, range(20))
        begin = time.perf_counter()
        pool.map(nothing, range(count), 1)
        return count / (time.perf_counter() - begin)


def cases(cpus, pin):
    """As cases() of python_bench."""
    bench = Bench(cpus, pin)
    theirs, ours = multiprocessing.Queue, buffered_pipe.Queue
    contexts = multiprocessing.get_context("fork"), buffered_pipe.get_context("fork")
    yield "queue 1 to 1", {
        "multiprocessing": lambda n: stream(bench, theirs, n),
        "Queue": lambda n: stream(bench, ours, n),
    }
    yield f"queue {CROWD} to {CROWD}", {
        # Not less: the processes of a crowd do not begin at once.
        "multiprocessing": lambda n: stream(bench, theirs, max(n, 20_000), CROWD),
        "Queue": lambda n: stream(bench, ours, max(n, 500_000), CROWD),
    }
    yield f"queue, {BATCH} at once", {
        "put, get": lambda n: stream(bench, ours, n),
        "put_many": lambda n: stream(bench, ours, n, many=True),
    }
    yield "queue round trip", {
        "multiprocessing": lambda n: round_trips(bench, theirs, n),
        "Queue": lambda n: round_trips(bench, ours, n),
    }
    yield "queue executor", {
        "multiprocessing": lambda n: tasks(bench, contexts[0], n),
        "our context": lambda n: tasks(bench, contexts[1], n),
    }
    yield "queue pool", {
        "multiprocessing": lambda n: pool_tasks(bench, contexts[0], n),
        "our context": lambda n: pool_tasks(bench, contexts[1], n),
    }
