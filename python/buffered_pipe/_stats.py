# SPDX-License-Identifier: MIT
"""What goes on in a pipe, as named tuples."""

from collections import namedtuple

SideStats = namedtuple("SideStats", "messages bytes waits refusals sleeps slept asleep wakeups", module="buffered_pipe")
SideStats.__doc__ = """How one side of a direction has fared since the pipe was made, all its holders together.

    messages   sent, or received; one longer than the buffer counts when its first piece goes
    bytes      that they took in the buffer: each message 8 more than its length rounded up to a multiple of 8
    waits      how often a call found the buffer full, or empty, and waited
    refusals   how often a try found it so, and gave up
    sleeps     how often such a call slept in the kernel
    slept      for how many seconds in all, without what is slept in wait() or in a loop that watches fileno()
    asleep     for how many seconds the call that sleeps now has waited; 0 if none does
    wakeups    how often this side woke the other one
"""

RingStats = namedtuple("RingStats", "size used messages high_water sender receiver", module="buffered_pipe")
RingStats.__doc__ = """One direction of a pipe.

    size          how many bytes it holds, counted as the bytes of SideStats
    used          how many of them the messages take that are not received yet
    messages      how many messages those are
    high_water    the most that the sender has found in it; it looks about once per buffer that it fills
    sender        the SideStats of those who send
    receiver      the SideStats of those who receive
"""

Stats = namedtuple("Stats", "sends receives", module="buffered_pipe")
Stats.__doc__ = """Both directions of a pipe as one end sees them, each a RingStats, or None if it does not go that way."""


def _ring(fields):
    if fields is None:
        return None
    *counts, sender, receiver = fields
    return RingStats(*counts, SideStats(*sender), SideStats(*receiver))


def of_end(end):
    return Stats(*map(_ring, end._stats()))
