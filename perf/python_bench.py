#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""buffered_pipe against multiprocessing: pipes, with streams, round trips, objects and arrays; and queues.

Two processes, each pinned to a CPU.  In each round all candidates of a case
take turns, some tenths of a second apart, and ratios are taken within a round:
on a machine that others use, absolute times of different moments say nothing.
What is printed is the median over the rounds and, in brackets, the extremes.
The last line says how much of the two CPUs others had.

Buffers are large by default, so that a message has left the sender's cache
before it is received: where two cores do not share a cache that is much quicker.
Try --buffer=65536, which is what multiprocessing.Pipe has in the kernel.  Arrays
go in pieces through a buffer that the cache of a core holds.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import platform
import statistics
import sys
import time
import traceback

import python_publish
import python_queues
from buffered_pipe import Generic_Pipe, Static_Pipe

try:
    import numpy
except ImportError:
    numpy = None

BUFFER = 4 << 20
ARRAY_BUFFER = 128 << 10
SIZES = (16, 64, 256, 1024, 4096)
DICT = {"name": "sensor", "id": 17, "value": 3.25, "tags": ["a", "b"], "ok": True}
ARRAY = 8 << 20
# The package that this one replaces, on the kind of machine for which the figures of the README are: it is
# not run here.  Static messages of 16 bytes a second, and how many times multiprocessing.Pipe it reached.
REPLACED = "stream 16 B", 0.58e6, (2.0, 2.8)
SECONDS = 0.2  # about how long one measurement takes


def pin(cpu):
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[cpu % len(cpus)]})


def in_child(function, *args):
    """Runs the function in a child on the other CPU; gives what to wait for."""
    pid = os.fork()
    if pid == 0:
        failed = False
        try:
            os.sched_setaffinity(0, CPUS)
            pin(1)
            function(*args)
        except (EOFError, BrokenPipeError):
            pass
        except BaseException:
            failed = True
            traceback.print_exc()
        finally:
            os._exit(failed)
    return pid


def end_of(pid):
    if os.waitpid(pid, 0)[1]:
        sys.exit("a child failed")


def mp_pipe():
    return multiprocessing.Pipe(False)


def generic_pipe():
    return Generic_Pipe(BUFFER)


def static_pipe(size):
    return Static_Pipe(size, max(1, BUFFER // size))


def stream(make, send, receive, message, count):
    """Messages a second."""
    receiver, sender = make()

    def fill(warm):
        put = getattr(sender, send)
        for _ in range(warm + count):
            put(message)

    warm = max(2, count // 10)
    pid = in_child(fill, warm)
    sender.close()
    get = getattr(receiver, receive)
    for _ in range(warm):
        get()
    begin = time.perf_counter()
    for _ in range(count):
        get()
    took = time.perf_counter() - begin
    receiver.close()
    end_of(pid)
    return count / took


def round_trips(make, message, count):
    """Round trips a second."""
    ours, theirs = make()

    def echo():
        ours.close()
        while True:
            theirs.send_bytes(theirs.recv_bytes())

    pid = in_child(echo)
    theirs.close()
    begin = 0
    for number in range(count + count // 10):
        if number == count // 10:
            begin = time.perf_counter()
        ours.send_bytes(message)
        ours.recv_bytes()
    took = time.perf_counter() - begin
    ours.close()
    end_of(pid)
    return count / took


def pickling(count):
    """Dicts a second: the slower of pickling and loading, which two processes do at once."""
    dumps, loads = pickle.dumps, pickle.loads
    data = dumps(DICT)
    begin = time.perf_counter()
    for _ in range(count):
        dumps(DICT)
    middle = time.perf_counter()
    for _ in range(count):
        loads(data)
    end = time.perf_counter()
    return count / max(middle - begin, end - middle)


def memcpy(size, count):
    """Copies a second, between two pieces of memory that are in use."""
    source, target = memoryview(bytearray(b"\1") * size), memoryview(bytearray(b"\2") * size)
    target[:] = source
    begin = time.perf_counter()
    for _ in range(count):
        target[:] = source
    return count / (time.perf_counter() - begin)


def cases():
    """(name, {candidate: function of a count}); the first candidate is what the others are compared to."""
    for size in SIZES:
        message = b"x" * size
        yield f"stream {size} B", {
            "multiprocessing": lambda n, m=message: stream(mp_pipe, "send_bytes", "recv_bytes", m, n),
            "generic": lambda n, m=message: stream(generic_pipe, "send_bytes", "recv_bytes", m, n),
            "static": lambda n, m=message: stream(
                lambda: static_pipe(len(m)), "send_bytes", "recv_bytes", m, n
            ),
        }
    yield "round trip 64 B", {
        "multiprocessing": lambda n: round_trips(multiprocessing.Pipe, b"x" * 64, n),
        "generic": lambda n: round_trips(lambda: Generic_Pipe(65536, duplex=True), b"x" * 64, n),
        "static": lambda n: round_trips(lambda: Static_Pipe(64, 1024, duplex=True), b"x" * 64, n),
    }
    yield "small dict", {
        "multiprocessing": lambda n: stream(mp_pipe, "send", "recv", DICT, n),
        "generic": lambda n: stream(generic_pipe, "send", "recv", DICT, n),
        "pickle alone": pickling,
    }
    array = numpy.ones(ARRAY, dtype="u1") if numpy else None
    yield "8 MB array", numpy and {
        "multiprocessing": lambda n: stream(mp_pipe, "send", "recv", array, n),
        "generic": lambda n: stream(lambda: Generic_Pipe(ARRAY_BUFFER), "send", "recv", array, n),
        "memcpy": lambda n: memcpy(ARRAY, n),
    }
    yield from python_queues.cases(CPUS, pin)


def calibrate(measure):
    """A count that takes about SECONDS."""
    count = 4
    while True:
        begin = time.perf_counter()
        rate = measure(count)
        if time.perf_counter() - begin > SECONDS / 4 or count > 1e7:
            return max(4, int(rate * SECONDS))
        count *= 4


def run(candidates, rounds):
    """{candidate: [rate of each round]}"""
    counts = {name: calibrate(measure) for name, measure in candidates.items()}
    rates = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, measure in candidates.items():
            rates[name].append(measure(counts[name]))
    return rates


def busy_time():
    """Seconds that the CPUs of this benchmark were busy since the system started."""
    used = 0
    with open("/proc/stat") as stat:
        for line in stat:
            name, *times = line.split()
            if name in {f"cpu{cpu}" for cpu in sorted(CPUS)[:2]}:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, times[:8])
                used += user + nice + system + irq + softirq + steal
    return used / os.sysconf("SC_CLK_TCK")


def own_time():
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def others_share(begin):
    """Of the CPUs since begin = (time, busy, own), in percent."""
    took, busy, own = time.monotonic() - begin[0], busy_time() - begin[1], own_time() - begin[2]
    return max(0.0, 100 * (busy - own) / (took * min(2, len(CPUS))))


def summary(values):
    return statistics.median(values), min(values), max(values)


def ratios(rates):
    first, *others = rates
    return {name: summary([a / b for a, b in zip(rates[name], rates[first])]) for name in others}


def draw(results, path):
    """Bars by gnuplot: how many times multiprocessing.Pipe, on a logarithmic scale."""
    sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "report"))
    import plots

    bars = [(f"{case}, {name}", *each) for case, found in results for name, each in ratios(found).items()]
    label = f"times the rate of multiprocessing, or of single calls; CPython {platform.python_version()}, two CPUs, buffers of {BUFFER >> 10:,} KiB"
    picture = plots.bars("Median, smallest and largest of all rounds", label, bars)
    directory, name = os.path.split(os.path.abspath(path))
    picture.draw(directory, name.removesuffix(".svg"))


def report(case, rates):
    for name, each in rates.items():
        rate = summary(each)[0]
        line = f"{case:18} {name:16} {rate:12,.0f} /s"
        if name in ratios(rates):
            median, low, high = ratios(rates)[name]
            line += f"   {median:6.1f} times  [{low:.1f} {high:.1f}]"
        if "array" in case:
            line += f"   {rate * ARRAY / 1e9:.2f} GB/s"
        print(line, flush=True)


def report_replaced(rates):
    """Constants against a measurement: the second line, of ratios, says more than the first."""
    case, rate, times = REPLACED
    now, ratio = summary(rates["static"])[0], ratios(rates)["static"][0]
    print(f"{case:18} {'replaced':16} {rate:12,.0f} /s   as noted; static is {now / rate:.1f} times it")
    print(
        f"{'':18} {'':16} {times[0]}-{times[1]} times multiprocessing, as noted; "
        f"static is {ratio / times[1]:.1f}-{ratio / times[0]:.1f} times that",
        flush=True,
    )


def main():
    global BUFFER, CPUS
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--buffer", type=int, default=BUFFER, help="bytes (%(default)s)")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--svg", metavar="FILE.svg", help="draw the ratios (needs gnuplot)")
    parser.add_argument("--publish", action="store_true", help="write the figures into the pages and the picture that show them")
    options = parser.parse_args()
    if options.publish and options.only:
        parser.error("only all figures together are published")
    BUFFER = options.buffer
    CPUS = os.sched_getaffinity(0)
    pin(0)
    begin = time.monotonic(), busy_time(), own_time()
    results = []
    for case, candidates in cases():
        if options.only and options.only not in case:
            continue
        if not candidates:
            print(f"{case:18} needs numpy")
            continue
        results.append((case, run(candidates, options.rounds)))
        report(*results[-1])
        if case == REPLACED[0]:
            report_replaced(results[-1][1])
    others = others_share(begin)
    print(f"Others had {others:.0f} % of these CPUs.")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(dict(results), file, indent=1)
    if options.publish:
        python_publish.publish(dict(results), others)
        options.svg = options.svg or os.path.join(os.path.dirname(os.path.abspath(__file__)), "python.svg")
    if options.svg:
        draw(results, options.svg)


if __name__ == "__main__":
    main()
