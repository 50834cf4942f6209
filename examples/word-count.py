#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A pool of Python processes that count words.

    word-count.py FILE...

The lines go through one pipe, from which every worker takes; the counts come back
through another. With multiprocessing.Pipe this would need a lock around each end.
"""

import collections
import multiprocessing
import sys

from buffered_pipe import Pipe

WORKERS = 4


def work(lines, counts, *unused):
    # The stream of lines ends when nobody holds its sending end, so let go of what fork has copied.
    for end in unused:
        end.close()
    words = collections.Counter()
    try:
        while True:
            words.update(lines.recv().split())
    except EOFError:
        counts.send(words)


def main(names):
    lines, give = Pipe(buffer_size=1 << 16)
    collect, counts = Pipe(buffer_size=1 << 16)
    context = multiprocessing.get_context('fork')
    workers = [context.Process(target=work, args=(lines, counts, give, collect)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    lines.close()
    counts.close()
    # The workers end when this end is closed, also after an exception: Python waits for them at its exit.
    with give:
        for name in names:
            with open(name, encoding='utf-8', errors='replace') as file:
                for line in file:
                    give.send(line)

    words = collections.Counter()
    try:
        while True:
            words += collect.recv()
    except EOFError:
        pass
    for worker in workers:
        worker.join()
    for word, times in sorted(words.items(), key=lambda item: (-item[1], item[0]))[:10]:
        print(times, word)


if __name__ == '__main__':
    main(sys.argv[1:])
