# SPDX-License-Identifier: MIT
"""The statistics of a pipe, as named tuples."""

from collections import namedtuple

SideStats = namedtuple("SideStats", "messages bytes waits refusals sleeps slept asleep wakeups", module="buffered_pipe")
SideStats.__doc__ = """One side of a direction since the pipe was made, all its holders together.

    messages   how many messages were sent, or received; one longer than the buffer counts with its first fragment
    bytes      how many bytes of the buffer they took: 8 for each, and its length rounded up to a multiple of 8
    waits      how often a call found the buffer full, or empty, and waited
    refusals   how often a try found it so, and gave up
    sleeps     how often a waiting call slept in the kernel
    slept      for how many seconds in all; sleeps in wait(), or in a loop that watches fileno(), do not count
    asleep     for how many seconds the call that sleeps now has waited; 0 if none sleeps
    wakeups    how often this side woke the other side
"""

RingStats = namedtuple("RingStats", "size used messages high_water sender receiver", module="buffered_pipe")
RingStats.__doc__ = """One direction of a pipe.

    size          how many bytes it holds, counted like the bytes of SideStats
    used          how many of these bytes are taken by messages that are not received yet
    messages      how many messages are not received yet
    high_water    the most bytes that the sender has found used; it looks about once per buffer that it fills
    sender        the SideStats of the sending side
    receiver      the SideStats of the receiving side
"""

Stats = namedtuple("Stats", "sends receives", module="buffered_pipe")
Stats.__doc__ = """Both directions of a pipe as one end sees them: each a RingStats, or None if the end does not have it."""


def _ring(fields):
    if fields is None:
        return None
    *counts, sender, receiver = fields
    return RingStats(*counts, SideStats(*sender), SideStats(*receiver))


def of_end(end):
    return Stats(*map(_ring, end._stats()))
