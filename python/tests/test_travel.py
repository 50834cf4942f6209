# SPDX-License-Identifier: MIT
"""Ends can be pickled while a process is being spawned, by any package and with any pickler."""

import copy
import importlib
import io
import itertools
import multiprocessing
import multiprocessing.context
import os
import pickle
import unittest

from buffered_pipe import Generic_Pipe, Static_Pipe
from support import LONG, TestCase, descriptors, give_and_leave, wait_until

ALONE = "pickled only by multiprocessing"


def module(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise unittest.SkipTest(f"needs {name}") from None


def describe(end, sender):
    sender.send((end.name, end.max_message))


class Travel(TestCase):
    def check_spawn(self, context):
        before = descriptors()
        receiver, sender = Generic_Pipe(4096)
        process = context.Process(target=give_and_leave, args=(sender,))
        process.start()
        sender.close()
        self.assertEqual(receiver.recv(timeout=2 * LONG), "sent before it left")
        self.assertRaises(EOFError, receiver.recv, timeout=2 * LONG)
        process.join(2 * LONG)
        self.assertEqual(process.exitcode, 0)
        del process, receiver
        wait_until(lambda: descriptors() <= before + 3)  # a resource tracker may have come

    def test_multiprocess(self):
        multiprocess = module("multiprocess")
        self.check_spawn(multiprocess.get_context("fork"))
        try:
            self.check_spawn(multiprocess.get_context("spawn"))
        except TypeError as error:  # Debian 12 has one that does not fit its Python
            self.assertIn("fork_exec", str(error))

    def test_billiard(self):
        billiard = module("billiard")
        for method in "spawn", "fork":
            self.check_spawn(billiard.get_context(method))

    def test_loky(self):
        context = module("joblib.externals.loky.backend.context")
        self.check_spawn(context.get_context("loky"))

    def test_a_pickler_of_ones_own_while_a_process_is_being_spawned(self):
        picklers = [pickle.Pickler, pickle._Pickler]
        for name in "cloudpickle", "dill":
            try:
                picklers.append(importlib.import_module(name).Pickler)
            except ImportError:
                pass

        class Popen:  # the process that is being spawned, as a pickler sees it
            pid = None

            def duplicate_for_child(self, fd):
                return fd

            def DupFd(self, fd):
                return Passed(os.dup(fd))

        contexts = [multiprocessing.context]
        for name in "multiprocess", "billiard":
            try:
                contexts.append(importlib.import_module(name + ".context"))
                importlib.import_module(name + ".reduction")
            except ImportError:
                pass
        for pickler, context in itertools.product(picklers, contexts):
            receiver, sender = Generic_Pipe(4096)
            popen = Popen()
            self.addCleanup(setattr, popen, "pid", 1)
            context.set_spawning_popen(popen)
            try:
                pickler(file := io.BytesIO()).dump({"end": sender})
            finally:
                context.set_spawning_popen(None)
            popen.pid = 1
            sender.close()
            sender = pickle.loads(file.getvalue())["end"]
            sender.send("hello")
            self.assertEqual(receiver.recv(), "hello")

    def test_outside_of_that_it_is_an_error(self):
        functions = [pickle.dumps, copy.copy, copy.deepcopy]
        for name in "cloudpickle", "dill":
            try:
                functions.append(importlib.import_module(name).dumps)
            except ImportError:
                pass
        before = descriptors()
        ends = Generic_Pipe(4096) + Static_Pipe(8, 1)
        for function in functions:
            for end in ends:
                self.assertRaisesRegex(TypeError, ALONE, function, end)
        del ends, end
        self.assertEqual(descriptors(), before)

    def test_name_and_limit_go_along(self):
        for method in "spawn", "fork":
            receiver, sender = Generic_Pipe(4096, name="numbers", max_message=5000)
            context = multiprocessing.get_context(method)
            process = context.Process(target=describe, args=(receiver, sender))
            process.start()
            name, limit = receiver.recv(timeout=2 * LONG)
            self.assertEqual((name, limit), ("numbers", 5000))
            process.join(2 * LONG)


class Passed:
    """A descriptor as it arrives in the other process, which here is this one."""

    def __init__(self, fd):
        self.fd = fd

    def detach(self):
        return self.fd


if __name__ == "__main__":
    unittest.main()
