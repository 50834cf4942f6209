# SPDX-License-Identifier: MIT
"""Two programs as users of the older package write them, with register() in each process and thread."""

import subprocess
import sys
import textwrap
import unittest

from support import TestCase, LONG

GENERIC = """
    from multiprocessing import Barrier, Process
    from threading import Thread

    from buffered_pipe import Generic_Pipe


    def send(barrier, pipe_send):
        pipe_send.register()
        barrier.wait()
        pipe_send.send("Hello, world!")


    def receive(barrier, pipe_recv):
        pipe_recv.register()
        barrier.wait()
        print(pipe_recv.recv())


    if __name__ == "__main__":
        barrier = Barrier(3)
        pipe_recv, pipe_send = Generic_Pipe(buffer_size=2048, duplex=False)
        process = Process(target=send, args=(barrier, pipe_send))
        thread = Thread(target=receive, args=(barrier, pipe_recv))
        process.start()
        thread.start()
        barrier.wait()
        process.join()
        thread.join()
"""

STATIC = """
    from multiprocessing import Barrier, Process
    from threading import Thread

    from buffered_pipe import Static_Pipe


    def send(barrier, pipe_send):
        pipe_send.register()
        barrier.wait()
        text = "Hello, world!"
        text = text + " " * (32 - len(text))
        pipe_send.send(text.encode())


    def receive(barrier, pipe_recv):
        pipe_recv.register()
        barrier.wait()
        print(pipe_recv.recv().decode())


    if __name__ == "__main__":
        barrier = Barrier(3)
        pipe_recv, pipe_send = Static_Pipe(object_size=32, object_count=16, duplex=False)
        process = Process(target=send, args=(barrier, pipe_send))
        thread = Thread(target=receive, args=(barrier, pipe_recv))
        process.start()
        thread.start()
        barrier.wait()
        process.join()
        thread.join()
"""


class Examples(TestCase):
    def run_program(self, program):
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3 * LONG,
        )
        self.assertEqual(result.returncode, 0, result.stdout)
        return result.stdout

    def test_generic(self):
        self.assertEqual(self.run_program(GENERIC), "Hello, world!\n")

    def test_static(self):
        self.assertEqual(self.run_program(STATIC), "Hello, world!".ljust(32) + "\n")


if __name__ == "__main__":
    unittest.main()
