# SPDX-License-Identifier: MIT
"""What ends or interrupts a blocking call: signals, other threads, and handles that are closed meanwhile."""

import multiprocessing
import os
import signal
import threading
import time
import unittest

import buffered_pipe
from buffered_pipe import Generic_Pipe, Static_Pipe
from support import BLINK, LONG, TestCase, fork, stopped_in_the_middle, thread, wait_asleep, wait_until


class Interrupted(Exception):
    """What a signal handler raises."""


class Loading:
    """Loading it runs Python code; for every third object a signal arrives in that code."""

    def __init__(self, number):
        self.number = number

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.number % 3 == 0:
            signal.raise_signal(signal.SIGUSR1)


class Interruption(TestCase):
    def interrupt(self, call):
        """Makes the call in this thread, the main thread, and interrupts it when it is asleep."""
        ready = threading.get_native_id()

        def kill():
            wait_asleep(ready)
            os.kill(os.getpid(), signal.SIGINT)

        with thread(kill):
            begin = time.monotonic()
            self.assertRaises(KeyboardInterrupt, call)
        return time.monotonic() - begin

    def interrupt_soon(self, call):
        # On a busy machine a single one may come late.
        self.assertTrue(any(self.interrupt(call) < BLINK for _ in range(5)))

    def test_control_c_ends_every_blocked_call(self):
        receiver, sender = Generic_Pipe(2048)
        full_receiver, full = Static_Pipe(8, 1)
        full.send(bytes(8))
        small_receiver, small = Generic_Pipe(5)
        other, other_sender = Generic_Pipe(2048)
        listener = buffered_pipe.listen(f"@buffered_pipe-test-{os.getpid()}")
        self.addCleanup(listener.close)
        for call in (
            listener.accept,
            receiver.recv,
            receiver.recv_bytes,
            lambda: receiver.recv_bytes_into(bytearray(10)),
            lambda: receiver.poll(None),
            lambda: receiver.recv_bytes(timeout=LONG),
            lambda: receiver.recv_view().__enter__(),
            lambda: full.send(bytes(8)),
            lambda: full.send_view().__enter__(),
            lambda: small.send_bytes(bytes(100000)),
            lambda: buffered_pipe.wait([receiver]),
            lambda: buffered_pipe.wait([receiver, other]),
        ):
            self.interrupt_soon(call)
        sender.send(1)
        self.assertEqual(receiver.recv(), 1)

    def test_control_c_in_the_middle_of_a_message_whose_sender_is_stopped(self):
        receiver, sender = Generic_Pipe(5)
        for call in (
            receiver.recv_bytes,
            receiver.recv,
            lambda: receiver.recv_bytes(1000000),
            lambda: receiver.recv_bytes_into(bytearray(100000)),
        ):
            pid = stopped_in_the_middle(sender, bytes(100000))
            self.interrupt_soon(call)
            os.kill(pid, signal.SIGCONT)
            # The rest of the message is skipped; but its sender may have given it up and begun again.
            got = receiver.recv_bytes(timeout=LONG)
            if got == bytes(100000):
                got = receiver.recv_bytes(timeout=LONG)
            self.assertEqual(got, b"next")
            self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def test_a_handler_in_the_middle_of_a_message(self):
        receiver, sender = Generic_Pipe(5)
        main = threading.get_native_id()
        message = bytes(range(256)) * 400
        refused = []

        def handler(*_):
            try:
                receiver.recv(timeout=0)
            except RuntimeError as error:
                refused.append(str(error))

        def disturb(pid):
            for count in range(1, 4):
                wait_asleep(main)
                os.kill(os.getpid(), signal.SIGUSR1)
                wait_until(lambda: len(refused) == count)
            os.kill(pid, signal.SIGCONT)

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            for receive in (receiver.recv_bytes, lambda: receiver.recv_bytes(timeout=LONG)):
                del refused[:]
                pid = stopped_in_the_middle(sender, message)
                with thread(disturb, pid):
                    self.assertEqual(receive(), message)
                self.assertEqual(receiver.recv_bytes(timeout=LONG), b"next")
                self.assertEqual(os.waitpid(pid, 0)[1], 0)
                self.assertIn("signal handler", refused[0])
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_control_c_while_another_process_has_the_turn(self):
        receiver, sender = Generic_Pipe(2048)
        ready_receiver, ready = Generic_Pipe(2048)

        pid = fork()
        if pid == 0:
            with sender.send_view(8):
                ready.send(1)
                signal.pause()
        try:
            ready_receiver.recv()
            for call in (lambda: sender.send(1), lambda: sender.send_bytes(bytes(1000000))):
                self.interrupt_soon(call)
            self.assertLess(self.interrupt(sender.shutdown), LONG / 2)
            for timeout in (0, 0.05):
                self.assertRaises(TimeoutError, sender.shutdown, timeout=timeout)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        sender.send(2)
        self.assertEqual(receiver.recv(), 2)
        sender.shutdown(timeout=0)
        self.assertRaises(EOFError, receiver.recv, timeout=LONG)

    def test_the_shutdown_of_a_full_pipe_does_not_wait(self):
        for receiver, sender in (Static_Pipe(8, 2), Generic_Pipe(16)):
            sent = 0
            with self.assertRaises(TimeoutError):
                while True:
                    sender.send_bytes(bytes(8), timeout=0)
                    sent += 1
            sender.shutdown(timeout=LONG)
            self.assertRaises(BrokenPipeError, sender.send_bytes, bytes(8))
            for _ in range(sent):
                self.assertEqual(receiver.recv_bytes(timeout=0), bytes(8))
            self.assertRaises(EOFError, receiver.recv_bytes, timeout=LONG)
            receiver, sender = Static_Pipe(8, 2)
            receiver.shutdown()
            self.assertRaises(BrokenPipeError, sender.send, bytes(8))

    def test_a_handler_that_returns_lets_the_call_go_on(self):
        receiver, sender = Generic_Pipe(2048)
        small_receiver, small = Generic_Pipe(5)
        seen = []
        before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        main = threading.get_native_id()
        message = bytes(range(256)) * 400

        def disturb(finish):
            for _ in range(5):
                wait_asleep(main)
                os.kill(os.getpid(), signal.SIGUSR1)
            finish()

        try:
            with thread(disturb, lambda: sender.send("at last")):
                self.assertEqual(receiver.recv(), "at last")
            with thread(disturb, lambda: self.assertEqual(small_receiver.recv_bytes(), message)):
                small.send_bytes(message)
        finally:
            signal.signal(signal.SIGUSR1, before)
        self.assertTrue(seen)

    def test_a_handler_may_use_the_pipe(self):
        receiver, sender = Generic_Pipe(2048)
        before = signal.signal(signal.SIGUSR1, lambda *_: sender.send("from the handler"))
        main = threading.get_native_id()

        def disturb():
            wait_asleep(main)
            os.kill(os.getpid(), signal.SIGUSR1)

        try:
            with thread(disturb):
                self.assertEqual(receiver.recv(), "from the handler")
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_an_interrupted_load_loses_its_own_message_alone(self):
        def handler(*_):
            raise Interrupted

        self.addCleanup(signal.signal, signal.SIGUSR1, signal.signal(signal.SIGUSR1, handler))
        receiver, sender = Generic_Pipe(65536)
        for number in range(100):
            sender.send(Loading(number))
        found = []
        lost = 0
        for _ in range(100):
            try:
                found.append(receiver.recv(timeout=LONG).number)
            except Interrupted:
                lost += 1
        self.assertFalse(receiver.poll(0))
        self.assertEqual(found, [number for number in range(100) if number % 3])
        self.assertEqual(lost, 34)

    def test_a_timeout_error_of_a_handler_is_not_ours(self):
        receiver, sender = Generic_Pipe(2048)

        def fail(*_):
            raise TimeoutError("alarm")

        before = signal.signal(signal.SIGALRM, fail)
        try:
            with self.assertRaisesRegex(TimeoutError, "alarm"):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                receiver.poll(LONG)
        finally:
            signal.signal(signal.SIGALRM, before)


class Threads(TestCase):
    def test_others_run_while_a_call_blocks(self):
        receiver, sender = Generic_Pipe(2048)
        full_receiver, full = Static_Pipe(8, 1)
        full.send(bytes(8))
        for call in (
            lambda: receiver.recv(timeout=LONG),
            lambda: receiver.poll(LONG),
            lambda: buffered_pipe.wait([receiver], LONG),
        ):
            with thread(call) as running:
                wait_asleep(running.native_id)
                sender.send(1)
            if receiver.poll():
                receiver.recv()
        with thread(lambda: full.send(bytes(8), timeout=LONG)) as running:
            wait_asleep(running.native_id)
            full_receiver.recv()

    def test_a_blocked_call_ends_when_its_handle_is_closed(self):
        receiver, sender = Generic_Pipe(2048)
        full_receiver, full = Static_Pipe(8, 1)
        full.send(bytes(8))
        long_receiver, long = Generic_Pipe(5)
        for handle, call in (
            (receiver, receiver.recv),
            (full, lambda: full.send(bytes(8))),
            (long, lambda: long.send_bytes(bytes(1 << 28))),
        ):
            with thread(lambda: self.assertRaisesRegex(OSError, "closed", call)) as running:
                wait_asleep(running.native_id)
                handle.close()
                begin = time.monotonic()
            self.assertLess(time.monotonic() - begin, LONG / 2)

    def test_a_long_message_without_a_receiver_is_not_sent_again_and_again(self):
        def excess():
            receiver, sender = Generic_Pipe(4096)
            with thread(lambda: self.assertRaisesRegex(OSError, "closed", sender.send_bytes, bytes(1 << 20))):
                time.sleep(3.2)  # if it began again, each attempt would notice the close later
                sender.close()
                begin = time.monotonic()
            return time.monotonic() - begin

        # On a busy machine a single one may come late.
        self.assertTrue(any(excess() < BLINK / 2 for _ in range(5)))

    def test_waiting_for_many_ends_when_one_is_closed(self):
        receiver, sender = Generic_Pipe(2048)
        other, other_sender = Generic_Pipe(2048)
        plain, plain_sender = multiprocessing.Pipe(False)
        for objects in ([other], [other, plain]):
            handle = receiver.fork()
            with thread(
                lambda: self.assertRaisesRegex(OSError, "closed", buffered_pipe.wait, [handle, *objects])
            ) as running:
                wait_asleep(running.native_id)
                handle.close()

    def test_a_call_in_the_middle_of_a_long_message_ends_when_its_handle_is_closed(self):
        receiver, sender = Generic_Pipe(5)
        handle = receiver.fork()
        pid = stopped_in_the_middle(sender, bytes(100000))
        try:
            with thread(lambda: self.assertRaisesRegex(OSError, "closed", handle.recv_bytes)) as running:
                wait_asleep(running.native_id)
                handle.close()
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        # The turn is free again, and nobody receives the message of the dead sender.
        sender.send_bytes(b"next")
        self.assertEqual(receiver.recv_bytes(timeout=LONG), b"next")

    def test_no_other_thread_runs_in_a_call_that_does_not_block(self):
        # With a switch interval this long, only a call that releases the GIL lets the other thread in.
        import sys

        receiver, sender = Generic_Pipe(1 << 16)
        ran = []
        go = threading.Event()
        before = sys.getswitchinterval()

        def other():
            go.wait()
            ran.append(1)

        running = threading.Thread(target=other)
        running.start()
        wait_asleep(running.native_id)
        sys.setswitchinterval(1000)
        try:
            go.set()
            for _ in range(1000):
                sender.send_bytes(b"x" * 100)
                receiver.poll()
                receiver.recv_bytes()
                sender.send(1)
                receiver.recv()
            self.assertEqual(ran, [])
        finally:
            sys.setswitchinterval(before)
            running.join()


if __name__ == "__main__":
    unittest.main()
