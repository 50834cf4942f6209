# SPDX-License-Identifier: MIT
"""The module in its interpreter: several interpreters, the exit, and what help() and type checkers see."""

import ast
import faulthandler
import gc
import importlib.util
import inspect
import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
import unittest
import weakref

import buffered_pipe
from support import LONG, TestCase

SUBINTERPRETER = """
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters

    program = '''
    import sys
    sys.path[:] = {path!r}
    from buffered_pipe import Generic_Pipe
    receiver, sender = Generic_Pipe(4096)
    sender.send({{"a": [1]}})
    assert receiver.recv() == {{"a": [1]}}
    with sender.send_view(3) as view:
        view[:] = b"abc"
    assert receiver.recv_bytes() == b"abc"
    try:
        receiver.recv(timeout=0.01)
    except TimeoutError:
        pass
    '''
    import sys, textwrap
    import buffered_pipe
    for _ in range(3):
        made = interpreters.create()
        failed = interpreters.run_string(made, textwrap.dedent(program).format(path=sys.path))
        assert failed is None, failed
        interpreters.destroy(made)
    receiver, sender = buffered_pipe.Generic_Pipe(4096)
    sender.send(1)
    assert receiver.recv() == 1
    print("done")
"""

AT_EXIT = """
    import threading
    from buffered_pipe import Generic_Pipe
    receiver, sender = Generic_Pipe(4096)
    view = sender.send_view(5)
    view.__enter__()
    threading.Thread(target=receiver.recv, daemon=True).start()
    print("done")
"""

CLOSED_BY_ARGUMENTS = """
    from buffered_pipe import Generic_Pipe, Static_Pipe, wait

    class Closing:
        def __init__(self, end):
            self.end = end

        def __float__(self):
            self.end.close()
            return 1.0

        def __index__(self):
            self.end.close()
            return 0

        def __reduce__(self):
            self.end.close()
            return int, ()

    def sending(end, it):
        yield lambda: end.send({}, timeout=it)
        yield lambda: end.send(b"", timeout=it)
        yield lambda: end.send_bytes(b"", timeout=it)
        yield lambda: end.send_bytes(b"", it)
        yield lambda: end.send_bytes(b"", 0, it)
        yield lambda: end.send_view(it).__enter__()
        yield lambda: end.send_view(0, timeout=it).__enter__()
        yield lambda: end.shutdown(timeout=it)
        if not end.object_size:
            yield lambda: end.send(it)
            yield lambda: end.send([bytes(5000), it])

    def receiving(end, it):
        yield lambda: end.recv(timeout=it)
        yield lambda: end.recv_bytes(it)
        yield lambda: end.recv_bytes(timeout=it)
        yield lambda: end.recv_bytes_into(bytearray(9), it)
        yield lambda: end.recv_bytes_into(bytearray(9), timeout=it)
        yield lambda: end.recv_view(timeout=it).__enter__()
        yield lambda: end.poll(it)
        yield lambda: wait([end], it)

    count = 0
    for make in (lambda: Generic_Pipe(4096), lambda: Static_Pipe(8, 2)):
        for which, calls in (0, receiving), (1, sending):
            for number in range(20):
                end = make()[which]
                call = list(calls(end, Closing(end)))[number:][:1]
                if not call:
                    break
                try:
                    call[0]()
                except OSError as error:
                    assert str(error) == "handle is closed", error
                    count += 1
    print(count, "calls")
"""

# The collector clears a module that it finds in a cycle, while objects of it may still be called.
CLEARED = """
    import ctypes, importlib.util, os
    import buffered_pipe

    spec = buffered_pipe._core.__spec__
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    End, Listener = core.End, core.Listener
    receiver, sender = End._pair(buffer_size=4096)
    items = core.Queue()
    items._set_up(receiver, sender, 1, -1)
    items.put(None)
    name = f"@buffered_pipe.test.{os.getpid()}"
    listener = core.listen(Listener, name)
    view = receiver.recv_view()
    array = bytearray(5000)

    find = ctypes.pythonapi.PyModule_GetDef
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.py_object]
    m_clear = ctypes.c_void_p.from_address(find(core) + 11 * ctypes.sizeof(ctypes.c_void_p)).value
    ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)(m_clear)(core)

    calls = [
        lambda: sender.send([1]),
        lambda: sender.send(array),
        lambda: items.put("full", False),
        lambda: [items.get_nowait(), items.get_nowait()],
        lambda: items.put([array]),
        lambda: core.wait_ends([receiver], 0),
        lambda: listener._accept(End, 0, None),
        lambda: core.listen(Listener, name + "2"),
        lambda: core.connect(End, name, timeout=0),
        lambda: End._pair(buffer_size=4096),
        lambda: receiver.recv_view(),
        lambda: sender.send_bytes(b"N.") or receiver.recv(),
        items._fork,
    ]
    for call in calls:
        try:
            print(call())
        except RuntimeError as error:
            assert "is gone" in str(error), error
    sender.send_bytes(b"bytes")
    with view as memory:
        print(bytes(memory))
    print("done")
"""


def run(program, *options):
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * LONG,
    )


class Interpreter(TestCase):
    def test_each_interpreter_has_its_own(self):
        begin = SUBINTERPRETER.index("from buffered_pipe")
        end = SUBINTERPRETER.rindex("'''\n    import sys")
        control = run(SUBINTERPRETER[:begin] + "import datetime\n    " + SUBINTERPRETER[end:])
        if (control.returncode, control.stdout) != (0, "done\n"):
            self.skipTest("several interpreters do not work here: " + control.stdout)
        result = run(SUBINTERPRETER)
        self.assertEqual((result.returncode, result.stdout), (0, "done\n"))

    def test_a_module_that_was_used_can_go(self):
        spec = buffered_pipe._core.__spec__
        core = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(core)
        # As in a sub-interpreter, where the tables lead back to the module.
        core.set_reducers({"core": core}, {})
        receiver, sender = core.End._pair(buffer_size=4096)
        sender.send({"a": [1]})
        self.assertEqual(receiver.recv(), {"a": [1]})
        gone = weakref.ref(core)
        del core, receiver, sender
        gc.collect()
        self.assertIsNone(gone())

    def test_what_is_left_of_a_module_that_was_cleared_says_so(self):
        result = run(CLEARED, "-X", "dev")
        self.assertEqual((result.returncode, result.stdout), (0, "b'bytes'\ndone\n"))

    def test_exit_with_a_thread_blocked_and_a_view_open(self):
        result = run(AT_EXIT)
        self.assertEqual((result.returncode, result.stdout), (0, "done\n"))

    def test_developer_mode_finds_nothing(self):
        result = run(
            """
            from buffered_pipe import Generic_Pipe
            receiver, sender = Generic_Pipe(65536)
            sender.send([bytearray(5000)])
            print(len(receiver.recv()[0]))
            """,
            "-X",
            "dev",
        )
        self.assertEqual((result.returncode, result.stdout), (0, "5000\n"))

    def test_asyncio_is_not_imported_for_those_who_do_not_use_it(self):
        result = run(
            """
            import sys
            from buffered_pipe import Generic_Pipe
            receiver, sender = Generic_Pipe(4096)
            sender.send("hello")
            receiver.recv()
            receiver.close()
            print("asyncio" in sys.modules)
            """
        )
        self.assertEqual((result.returncode, result.stdout), (0, "False\n"))

    def test_a_handle_that_the_code_of_an_argument_closes(self):
        # This mode overwrites freed memory.
        result = run(CLOSED_BY_ARGUMENTS, "-X", "dev")
        self.assertEqual((result.returncode, result.stdout), (0, "34 calls\n"))

    def public(self, thing):
        of_a_tuple = dir(tuple) if isinstance(thing, type) and issubclass(thing, tuple) else ()
        return [name for name in dir(thing) if not name.startswith("_") and name not in of_a_tuple]

    def test_everything_has_a_docstring(self):
        for name in buffered_pipe.__all__:
            thing = getattr(buffered_pipe, name)
            self.assertTrue(thing.__doc__, name)
            if inspect.isclass(thing):
                for member in self.public(thing):
                    self.assertTrue(getattr(thing, member).__doc__, f"{name}.{member}")

    def test_it_has_a_version(self):
        self.assertRegex(buffered_pipe.__version__, r"^\d+\.\d+\.\d+")

    def test_methods_have_signatures(self):
        signature = inspect.signature(buffered_pipe.End.send_bytes)
        self.assertEqual(list(signature.parameters), ["self", "buf", "offset", "size", "timeout"])
        for thing in buffered_pipe.End, buffered_pipe.Listener, buffered_pipe.MessageView:
            for name in *self.public(thing), "__enter__", "__exit__", "__reduce__":
                member = getattr(thing, name)
                if callable(member) and (thing, name) != (buffered_pipe.MessageView, "__reduce__"):
                    self.assertTrue(inspect.signature(member), name)
                    self.assertTrue(inspect.getdoc(member), name)
        self.assertEqual(str(inspect.signature(buffered_pipe.Listener.fileno)), "(self, /)")

    def test_types_have_their_public_module_and_name(self):
        for thing in (
            *(buffered_pipe.End, buffered_pipe.Listener, buffered_pipe.MessageView),
            *(buffered_pipe.Queue, buffered_pipe.JoinableQueue, buffered_pipe.SimpleQueue),
        ):
            self.assertEqual(repr(thing), f"<class 'buffered_pipe.{thing.__name__}'>")
            self.assertIs(pickle.loads(pickle.dumps(thing)), thing)

    @unittest.skipUnless(importlib.util.find_spec("mypy"), "needs mypy")
    def test_the_stubs_agree_with_the_package(self):
        # mypy looks at much of the standard library, which takes a while on a busy machine.
        faulthandler.dump_traceback_later(11 * LONG, exit=True)
        with tempfile.TemporaryDirectory() as directory:
            # mypy looks here first, wherever the package is.
            os.symlink(os.path.dirname(buffered_pipe.__file__), os.path.join(directory, "buffered_pipe"))
            result = subprocess.run(
                [sys.executable, "-m", "mypy.stubtest", "buffered_pipe"],
                cwd=directory,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=10 * LONG,
            )
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_arguments_have_the_names_that_the_documentation_says(self):
        receiver, sender = buffered_pipe.Generic_Pipe(4096)
        sender.send(obj=1)
        self.assertEqual(receiver.poll(timeout=0), True)
        self.assertEqual(receiver.recv(), 1)
        sender.send_bytes(buf=b"abcd", offset=1, size=2)
        room = bytearray(4)
        self.assertEqual(receiver.recv_bytes_into(buf=room, offset=1), 2)
        with sender.send_view(size=3):
            pass
        self.assertEqual(len(receiver.recv_bytes(maxlength=3)), 3)
        receiver, sender = buffered_pipe.Static_Pipe(32, 2)
        self.assertRaises(TypeError, sender.send, b"x" * 33, offset=1)
        self.assertRaises(TypeError, sender.send)
        self.assertRaises(TypeError, sender.send, obj={"no": "bytes"})
        sender.send(obj=b"x" * 32)
        self.assertEqual(receiver.recv(), b"x" * 32)
        sender.send(obj=b"y" * 32, timeout=0)
        self.assertEqual(receiver.recv(), b"y" * 32)

    def test_the_stubs_know_every_name(self):
        directory = os.path.dirname(buffered_pipe.__file__)
        self.assertTrue(os.path.exists(os.path.join(directory, "py.typed")))
        with open(os.path.join(directory, "__init__.pyi")) as file:
            stubs = ast.parse(file.read())
        known = {}
        for node in stubs.body:
            if isinstance(node, ast.ClassDef):
                known[node.name] = {
                    member.target.id if isinstance(member, ast.AnnAssign) else member.name
                    for member in node.body
                }
                for base in node.bases:
                    if isinstance(base, ast.Subscript):
                        known[node.name] |= known.get(base.value.id, set())
            elif isinstance(node, ast.FunctionDef):
                known[node.name] = None
            elif isinstance(node, ast.Assign):
                known[node.targets[0].id] = None
        for name in buffered_pipe.__all__:
            self.assertIn(name, known)
            if known[name]:
                self.assertEqual(
                    set(self.public(getattr(buffered_pipe, name))),
                    {member for member in known[name] if not member.startswith("_")},
                )


if __name__ == "__main__":
    unittest.main()
