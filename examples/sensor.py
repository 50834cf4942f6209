#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Across languages, the side in Python: reads the samples of sensor.c.

    sensor.py ADDRESS
"""

import struct
import sys

from buffered_pipe import connect

SAMPLE = struct.Struct('<QdI4x')  # struct sample in sensor.c


def main():
    if len(sys.argv) != 2:
        raise SystemExit('usage: sensor.py ADDRESS')
    count, total = 0, 0.0
    with connect(sys.argv[1], 'r', object_size=SAMPLE.size, wait_for_listener=True, timeout=60) as samples:
        try:
            while True:
                number, value, _state = SAMPLE.unpack(samples.recv_bytes())
                assert number == count
                count += 1
                total += value
        except EOFError:
            pass
    print(f'{count} samples, mean {total / count if count else 0}')


if __name__ == '__main__':
    main()
