# SPDX-License-Identifier: MIT
"""listen() and connect()."""

import contextlib
import errno
import multiprocessing
import os
import pathlib
import signal
import socket
import tempfile
import threading
import unittest

import buffered_pipe
from buffered_pipe import End
from support import LONG, TestCase, child, thread, wait_asleep


def use(sender):
    sender.send("from elsewhere")


class Meeting(TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.address = os.path.join(directory.name, "socket")

    def meet(self, listen=None, connect=None, **sizes):
        with buffered_pipe.listen(self.address, listen, **sizes) as listener:
            connected = []
            with thread(lambda: connected.append(buffered_pipe.connect(self.address, connect))):
                accepted = listener.accept(timeout=LONG)
        return accepted, connected[0]

    def test_the_side_that_accepts_receives(self):
        receiver, sender = self.meet()
        self.assertEqual((receiver.readable, receiver.writable), (True, False))
        self.assertIsInstance(receiver, End)
        sender.send("hello")
        self.assertEqual(receiver.recv(), "hello")
        self.assertFalse(os.path.exists(self.address))

    def test_a_handler_that_closes_the_listener_is_not_taken_for_a_timeout(self):
        listener = buffered_pipe.listen(self.address)
        before = signal.signal(signal.SIGALRM, lambda number, frame: listener.close())
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        self.assertRaisesRegex(OSError, "closed", listener.accept, timeout=0.15)
        self.assertRaisesRegex(OSError, "closed", listener.accept)

    def test_modes(self):
        for listen, connect, ways in (
            ("r", None, (True, False)),
            ("r", "w", (True, False)),
            ("w", None, (False, True)),
            ("w", "r", (False, True)),
            ("rw", "rw", (True, True)),
        ):
            accepted, connected = self.meet(listen, connect)
            self.assertEqual((accepted.readable, accepted.writable), ways)
            self.assertEqual((connected.writable, connected.readable), ways)
        for mode in ("x", "wr", 5):
            self.assertRaises(ValueError, buffered_pipe.listen, self.address, mode)
            self.assertRaises(ValueError, buffered_pipe.connect, self.address, mode)

    def test_a_static_pipe(self):
        receiver, sender = self.meet(object_size=8, object_count=3)
        sender.send(b"8 bytes!")
        self.assertEqual(receiver.recv(), b"8 bytes!")
        self.assertEqual(sender.object_count, 3)

    def test_errors(self):
        self.assertRaises(FileNotFoundError, buffered_pipe.connect, self.address)
        self.assertRaises(TypeError, buffered_pipe.listen, 5)
        self.assertRaises(ValueError, buffered_pipe.listen, self.address, buffer_size=-1)
        for mode in ("", "x", b"r"):
            self.assertRaisesRegex(ValueError, "mode must be", buffered_pipe.listen, self.address, mode)
        with buffered_pipe.listen(self.address, "rw") as listener:
            with self.assertRaises(OSError) as caught:
                buffered_pipe.listen(self.address)
            self.assertEqual(caught.exception.errno, errno.EADDRINUSE)
            self.assertRaises(TimeoutError, listener.accept, timeout=0)
            self.assertRaises(TimeoutError, listener.accept, timeout=0.05)
            self.assertRaises(ValueError, listener.accept, timeout=-1)

            def connect():
                self.assertRaises(OSError, buffered_pipe.connect, self.address, "r")

            with thread(connect) as connecting:
                self.refuse(listener, connecting)
            self.assertRaises(TimeoutError, buffered_pipe.connect, self.address, "rw", timeout=0.05)
        self.assertRaisesRegex(OSError, "closed", listener.accept)
        self.assertRaisesRegex(OSError, "closed", listener.fileno)

    def test_an_address_of_no_known_form_is_shown_with_those_that_are(self):
        for address in ("no address", "@", "", "fd:", "fd:x", "fd:-1", "fd:99999999999", b"relative"):
            with self.assertRaises(ValueError) as caught:
                buffered_pipe.listen(address)
            self.assertIn("'fd:N'", str(caught.exception))
            self.assertIn(repr(address), str(caught.exception))
        for address in ("no address", "@", "fd:3", "systemd:", b"relative"):
            with self.assertRaises(ValueError) as caught:
                buffered_pipe.connect(address)
            self.assertNotIn("fd:N", str(caught.exception))
            self.assertIn("'@name', not " + repr(address), str(caught.exception).replace(" or ", ", "))

    def test_sizes_that_make_no_sense_are_refused(self):
        for call in buffered_pipe.listen, buffered_pipe.connect:
            for sizes, words in (
                ({"buffer_size": 1 << 41}, "memory of this machine"),
                ({"buffer_size": 1 << 70}, "memory of this machine"),
                ({"object_size": 1 << 70}, "memory of this machine"),
                ({"object_size": 1, "object_count": 1 << 41}, "memory of this machine"),
                ({"buffer_size": 1, "object_size": 1}, "not both"),
                ({"object_count": 1}, "needs an object_size"),
                ({"buffer_size": -1}, "buffer_size must not be negative"),
            ):
                self.assertRaisesRegex(ValueError, words, call, self.address, **sizes)
            self.assertRaisesRegex(TypeError, "object_size must be", call, self.address, object_size="1")

    def admit(self, policy, connects=1, **options):
        """What accept returns or raises after each of the connections, and what each client gets."""
        results, clients = [], []

        def connect():
            for _ in range(connects):
                try:
                    clients.append(buffered_pipe.connect(self.address, timeout=LONG))
                except OSError as failure:
                    clients.append(failure)

        with buffered_pipe.listen(self.address, policy=policy, **options) as listener:
            self.assertIs(listener.policy, policy)
            with thread(connect) as connecting:
                while connecting.is_alive():
                    try:
                        results.append(listener.accept(timeout=0.05))
                    except TimeoutError:
                        pass
                    except Exception as failure:
                        results.append(failure)
                # The client that was let in beside an exception.
                try:
                    results.append(listener.accept(timeout=0.05))
                except TimeoutError:
                    pass
        return results, clients

    def test_a_policy_chooses_the_clients(self):
        asked = []

        def policy(client):
            asked.append(client)
            return len(asked) > 1

        accepted, clients = self.admit(policy, connects=2)
        self.assertEqual(len(accepted), 1)
        self.assertIsInstance(clients[0], PermissionError)
        clients[1].send("hello")
        self.assertEqual(accepted[0].recv(timeout=LONG), "hello")
        self.assertEqual(len(asked), 2)
        for client in asked:
            self.assertIsInstance(client, buffered_pipe.Client)
            self.assertEqual((client.pid, client.uid, client.gid), (os.getpid(), os.getuid(), os.getgid()))
            self.assertEqual(client.waiting, 0)

    def test_an_exception_of_the_policy_refuses_and_is_raised_by_accept(self):
        asked = []

        def policy(client):
            asked.append(client)
            if len(asked) == 1:
                raise LookupError("of the policy")
            return True

        accepted, clients = self.admit(policy, connects=2)
        self.assertIsInstance(clients[0], PermissionError)
        self.assertIsInstance(accepted[0], LookupError)
        # A client that was let in while it was raised is not lost.
        clients[1].send("hello")
        self.assertEqual(accepted[1].recv(timeout=LONG), "hello")

    def test_a_policy_may_be_slow_and_close_the_listener(self):
        listener = buffered_pipe.listen(self.address)
        self.assertIsNone(listener.policy)
        inside, go_on = threading.Event(), threading.Event()

        def policy(client):
            inside.set()
            go_on.wait(LONG)
            self.assertRaisesRegex(RuntimeError, "in accept", listener.accept, timeout=0)
            listener.close()
            return True

        listener.policy = policy

        def connect():
            try:
                buffered_pipe.connect(self.address, timeout=LONG)
            except OSError:
                pass

        def accept():
            try:
                listener.accept(timeout=LONG)
            except OSError:
                pass

        with thread(connect), thread(accept):
            # Other threads run meanwhile.
            self.assertTrue(inside.wait(LONG))
            go_on.set()
        self.assertTrue(listener.closed)

    def test_the_permissions_of_the_socket_file(self):
        before = os.umask(0o077)
        self.addCleanup(os.umask, before)
        for permissions, found in (0o666, 0o666), (0o200, 0o200), (None, 0o700):
            with buffered_pipe.listen(self.address, permissions=permissions):
                self.assertEqual(os.stat(self.address).st_mode & 0o777, found)
        for permissions in 0, -1, 0o1000, 1 << 70:
            self.assertRaisesRegex(
                ValueError, "permissions", buffered_pipe.listen, self.address, permissions=permissions
            )
        self.assertRaises(TypeError, buffered_pipe.listen, self.address, permissions="0o600")

    def test_a_policy_that_cannot_be_called_is_refused(self):
        self.assertRaisesRegex(TypeError, "policy", buffered_pipe.listen, self.address, policy=5)
        with buffered_pipe.listen(self.address) as listener:
            with self.assertRaisesRegex(TypeError, "policy"):
                listener.policy = "x"

    def test_the_size_that_the_other_side_may_choose(self):
        with buffered_pipe.listen(self.address, buffer_size=4096, size_limit=1 << 20) as listener:
            for size, fits in (4096, True), (1 << 20, True), (1 << 21, False), (0, True):
                connected = []

                def connect():
                    try:
                        connected.append(buffered_pipe.connect(self.address, buffer_size=size, timeout=LONG))
                    except OSError as failure:
                        connected.append(failure)

                with thread(connect) as connecting:
                    while connecting.is_alive() and not connected:
                        try:
                            listener.accept(timeout=0.05)
                        except TimeoutError:
                            pass
                if fits:
                    self.assertGreaterEqual(connected[0].buffer_size, size or 4096)
                else:
                    self.assertEqual(connected[0].errno, errno.EMSGSIZE)
        self.assertRaises(ValueError, buffered_pipe.listen, self.address, buffer_size=4096, size_limit=100)
        self.assertRaises(ValueError, buffered_pipe.listen, self.address, size_limit=-1)

    def test_the_size_that_a_client_takes(self):
        with buffered_pipe.listen(self.address, buffer_size=1 << 20) as listener:

            def connect():
                failure = self.failure(buffered_pipe.connect, self.address, size_limit=65536, timeout=LONG)
                self.assertEqual(failure[0], errno.E2BIG)

            with thread(connect) as connecting:
                self.refuse(listener, connecting)

    def test_a_client_may_wait_for_a_listener(self):
        self.assertRaises(
            TimeoutError, buffered_pipe.connect, self.address, wait_for_listener=True, timeout=0.05
        )
        connected = []

        def connect():
            connected.append(
                buffered_pipe.connect(self.address, wait_for_listener=True, timeout=LONG)
            )

        with thread(connect) as connecting:
            wait_asleep(connecting.native_id)
            with buffered_pipe.listen(self.address) as listener:
                listener.accept(timeout=LONG)
        self.assertEqual(len(connected), 1)

    def refuse(self, listener, connecting):
        """Accepts until the thread has ended, and finds no client that fits."""
        while connecting.is_alive():
            self.assertRaises(TimeoutError, listener.accept, timeout=0.05)

    def failure(self, call, address, *args, **options):
        with self.assertRaises(OSError) as caught:
            call(address, *args, **options)
        self.assertEqual(caught.exception.filename, address)
        return caught.exception.errno, caught.exception.strerror

    def test_a_listener_that_does_not_fit_says_so_in_words(self):
        differs = errno.EPROTOTYPE, "the listener's pipe is of another kind, direction or mode"
        too_large = errno.EMSGSIZE, "a size is larger than the listener allows"
        for mine, yours, options, failure in (
            ({"mode": "rw"}, "r", {}, differs),
            ({"mode": "r"}, "r", {}, differs),
            ({"object_size": 8, "object_count": 4}, None, {"object_size": 9}, differs),
            ({"object_size": 8, "object_count": 4}, None, {"buffer_size": 9}, differs),
            ({"object_size": 8, "object_count": 4}, None, {"object_size": 8, "object_count": 5}, too_large),
            ({"buffer_size": 4096}, None, {"buffer_size": 1 << 20}, too_large),
        ):
            with buffered_pipe.listen(self.address, **mine) as listener:
                found = []
                with thread(
                    lambda: found.append(
                        self.failure(buffered_pipe.connect, self.address, yours, timeout=LONG, **options)
                    )
                ) as connecting:
                    self.refuse(listener, connecting)
            self.assertEqual(found, [failure])

    def test_an_address_may_be_a_path_object_or_bytes(self):
        for address in pathlib.Path(self.address), os.fsencode(self.address):
            with buffered_pipe.listen(address) as listener:
                self.assertEqual(listener.address, self.address)
                with thread(buffered_pipe.connect, address):
                    listener.accept(timeout=LONG)
        self.assertRaises(FileNotFoundError, buffered_pipe.connect, pathlib.Path(self.address))

    def test_what_is_wrong_with_an_address_is_said_in_words(self):
        long = "/" + "x" * 200
        for call in buffered_pipe.listen, buffered_pipe.connect:
            self.assertRegex(self.failure(call, long)[1], "too long")
        self.assertRegex(self.failure(buffered_pipe.connect, self.address)[1], "nobody listens")
        with open(self.address, "w") as file:
            self.assertRegex(self.failure(buffered_pipe.listen, self.address)[1], "not a socket")
            self.assertRegex(self.failure(buffered_pipe.connect, self.address)[1], "nobody listens")
            self.assertRegex(self.failure(buffered_pipe.listen, f"fd:{file.fileno()}")[1], "not a socket")
        with socket.socket(socket.AF_UNIX) as other:
            self.assertRegex(self.failure(buffered_pipe.listen, f"fd:{other.fileno()}")[1], "SOCK_SEQPACKET")
            other.bind(self.address + "-stream")
            other.listen()
            self.assertRegex(self.failure(buffered_pipe.connect, self.address + "-stream")[1], "another protocol")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.bind(self.address + "-other")
            other.listen()

            def answer():
                with other.accept()[0] as connection, contextlib.suppress(ConnectionError):
                    connection.send(b"who is there?")
                    # Because it has not read everything, its close resets the connection.
                    connection.recv(4096)
                other.accept()[0].close()

            with thread(answer):
                for words in ("another protocol", "hung up"):
                    self.assertRegex(self.failure(buffered_pipe.connect, self.address + "-other")[1], words)
            with self.assertRaisesRegex(TimeoutError, "nobody accepted in time"):
                buffered_pipe.connect(self.address + "-other", timeout=0.05)

    def test_a_listener_can_be_waited_for_and_says_what_it_is(self):
        with buffered_pipe.listen(self.address) as listener:
            self.assertEqual(listener.address, self.address)
            self.assertEqual(repr(listener), f"<buffered_pipe.Listener at {self.address}>")
            self.assertEqual(buffered_pipe.wait([listener], 0), [])
            connected = []
            with thread(lambda: connected.append(buffered_pipe.connect(self.address, timeout=LONG))):
                self.assertEqual(buffered_pipe.wait([listener], LONG), [listener])
                listener.accept(timeout=LONG)
            self.assertFalse(listener.closed)
        self.assertTrue(listener.closed)
        self.assertIn("closed", repr(listener))

    def test_a_listener_in_a_child(self):
        with buffered_pipe.listen(self.address) as listener:

            def use_and_close():
                # The thread of the parent that is in accept() is not here.
                self.assertRaises(TimeoutError, listener.accept, timeout=0)
                descriptor = listener.fileno()
                listener.close()
                self.assertRaises(OSError, os.fstat, descriptor)

            with thread(lambda: listener.accept(timeout=LONG)) as running:
                wait_asleep(running.native_id)
                with child(use_and_close):
                    pass
                self.assertTrue(os.path.exists(self.address))
                buffered_pipe.connect(self.address, timeout=LONG)

    def test_an_end_goes_on_to_another_process(self):
        receiver, sender = self.meet()
        process = multiprocessing.get_context("spawn").Process(target=use, args=(sender,))
        process.start()
        sender.close()
        self.assertEqual(receiver.recv(timeout=LONG), "from elsewhere")
        process.join()


if __name__ == "__main__":
    unittest.main()
