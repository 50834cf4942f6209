#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Across languages, the side in Python: reads the samples of sensor.c.

    sensor.py ADDRESS
"""

import struct
import sys
import time

from buffered_pipe import connect

SAMPLE = struct.Struct('<QdI4x')  # struct sample in sensor.c


def meet(address):
    """connect does not wait for somebody to listen, so try for a while."""
    for _ in range(600):
        try:
            return connect(address, 'r', object_size=SAMPLE.size, timeout=60)
        except (FileNotFoundError, ConnectionRefusedError):
            time.sleep(0.1)
    raise SystemExit(f'nobody listens at {address}')


def main():
    count, total = 0, 0.0
    with meet(sys.argv[1]) as samples:
        try:
            while True:
                number, value, _state = SAMPLE.unpack(samples.recv_bytes())
                assert number == count
                count += 1
                total += value
        except EOFError:
            pass
    print(f'{count} samples, mean {total / count}')


if __name__ == '__main__':
    main()
