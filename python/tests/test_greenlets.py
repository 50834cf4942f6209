# SPDX-License-Identifier: MIT
"""Signal handlers that switch to another stack in the middle of a call."""

import os
import signal
import unittest

from buffered_pipe import Generic_Pipe, wait
from support import LONG, TestCase, fork, thread

try:
    import greenlet
except ImportError:
    greenlet = None


@unittest.skipUnless(greenlet, "needs greenlet")
class Greenlets(TestCase):
    def test_a_handler_switches_to_a_stack_that_calls_too(self):
        receiver, sender = Generic_Pipe(4096)
        other, other_sender = Generic_Pipe(4096)
        main = greenlet.getcurrent()

        def deep(levels):
            """Uses the memory in which the frames of the interrupted call were."""
            if levels:
                return deep(levels - 1)
            other.poll(0.01)
            main.switch()
            self.assertEqual(wait([other], 0.01), [])
            with thread(lambda: self.assertFalse(other.poll(0.05))):
                pass
            pid = fork()  # the child counts the calls that are at work
            if pid == 0:
                os._exit(0)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            sender.send("got through")
            main.switch()

        second = greenlet.greenlet(lambda: deep(50))
        calls = []

        def handler(number, frame):
            calls.append(number)
            second.switch()

        before = signal.signal(signal.SIGALRM, handler)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.3)
        self.assertEqual(receiver.recv(timeout=LONG), "got through")
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.assertGreaterEqual(len(calls), 2)
        other_sender.close()
        self.assertRaises(EOFError, other.recv)


if __name__ == "__main__":
    unittest.main()
