"""What a process holds, told by itself and by another."""

from __future__ import annotations

import copy
import errno
import json
import os
import pickle
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import probe
from noinherit import Descriptor, _sys, audit, exceptions, run_with, spawn_with
from noinherit._sys import socket_facts
from support import OTHERS

Make = Callable[[], int]

# The start of every program here: `number` tells what a descriptor is to audit().
PRELUDE = """
import contextlib, ctypes, json, os, socket, sys, tempfile
import noinherit
if sys.platform == "win32":
    import msvcrt
    number = msvcrt.get_osfhandle
else:
    import fcntl
    number = int
path = sys.argv[1]
"""
# Its end: tell, and stay to be looked at.
REPORT = """
found = noinherit.audit()
print(json.dumps([planted, [[d.number, d.kind, d.name, d.identity] for d in found if d.leaks]]))
sys.stdout.flush()
sys.stdin.read()
"""

LEAKS = {
    "open, then os.set_inheritable": """
        file = open(path)
        os.set_inheritable(file.fileno(), True)
        planted = [number(file.fileno()), "file"]
    """,
    "os.dup2": """
        with open(path) as file:
            os.dup2(file.fileno(), 40)
        planted = [number(40), "file"]
    """,
    "os.dup, then os.set_inheritable": """
        with open(path) as file:
            twin = os.dup(file.fileno())
        os.set_inheritable(twin, True)
        planted = [number(twin), "file"]
    """,
    "os.open, then the system's own way": """
        fd = os.open(path, os.O_RDONLY)
        if sys.platform == "win32":
            os.set_handle_inheritable(number(fd), True)
        else:
            fcntl.fcntl(fd, fcntl.F_SETFD, 0)
        planted = [number(fd), "file"]
    """,
    "a C library's open": """
        if sys.platform == "win32":
            class Attributes(ctypes.Structure):
                _fields_ = (
                    ("length", ctypes.c_uint32),
                    ("descriptor", ctypes.c_void_p),
                    ("inherit", ctypes.c_int32),
                )
            attributes = Attributes(ctypes.sizeof(Attributes), None, True)
            create = ctypes.WinDLL("kernel32").CreateFileW
            create.argtypes = [
                ctypes.c_wchar_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p,
                ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p,
            ]
            create.restype = ctypes.c_void_p
            opened = create(path, 0x80000000, 3, ctypes.byref(attributes), 3, 0, None)
        else:
            opened = ctypes.CDLL(None).open(os.fsencode(path), os.O_RDONLY)
        planted = [opened, "file"]
    """,
    "a temporary file": """
        file = tempfile.TemporaryFile()
        os.set_inheritable(file.fileno(), True)
        planted = [number(file.fileno()), "file"]
    """,
    "a pipe's end": """
        reader, writer = os.pipe()
        os.set_inheritable(reader, True)
        planted = [number(reader), "pipe"]
    """,
    "a socket": """
        sock = socket.socket()
        sock.set_inheritable(True)
        planted = [sock.fileno(), "socket"]
    """,
    "a listener": """
        sock = socket.create_server(("127.0.0.1", 0))
        sock.set_inheritable(True)
        planted = [sock.fileno(), "socket"]
    """,
    "a C library's dup": """
        with open(path) as file:
            if sys.platform == "win32":
                import _winapi
                here = _winapi.GetCurrentProcess()
                made = _winapi.DuplicateHandle(here, number(file.fileno()), here, 0, True, 2)
            else:
                made = ctypes.CDLL(None).dup(file.fileno())
        planted = [made, "file"]
    """,
}

CLEAN = {
    "nothing": "",
    "files": "files = [open(path), open(path, 'a'), os.dup(0)]",
    "inherited descriptors, taken": "file = noinherit.inherited()[7].open()",
    "temporary files": """
        stack = contextlib.ExitStack()
        stack.enter_context(tempfile.TemporaryFile())
        stack.enter_context(tempfile.NamedTemporaryFile())
        stack.enter_context(tempfile.TemporaryDirectory())
    """,
    "pipes and sockets": """
        pipe = os.pipe()
        pair = socket.socketpair()
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    """,
    "a selector": "import selectors; selector = selectors.DefaultSelector()",
    "an event loop": "import asyncio; loop = asyncio.new_event_loop()",
    "a running child": """
        import atexit, subprocess
        child = subprocess.Popen(
            [sys.executable, "-ISc", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        atexit.register(child.communicate, b"\\n")
    """,
    "another running child": """
        import atexit, subprocess
        child = noinherit.spawn_with(
            [sys.executable, "-ISc", "input()"], fds={5: open(path)}, stdin=subprocess.PIPE
        )
        atexit.register(child.communicate, b"\\n")
    """,
    "a mapping": "import mmap; shared = mmap.mmap(-1, 4096)",
    "a log": "import logging; logging.basicConfig(filename=path); logging.error('oh')",
    "threads": """
        import threading
        event = threading.Event()
        threading.Thread(target=event.wait, daemon=True).start()
    """,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a file"
    path.write_text("content")
    return path


class Seen:
    """What a program told of itself, and what another told of it meanwhile."""

    def __init__(self, planted: Any, inside: list[list[Any]], outside: list[Descriptor]) -> None:
        self.planted = planted
        self.inside = inside
        self.outside = [[d.number, d.kind, d.name, d.identity] for d in outside if d.leaks]


def look(program: str, path: Path, fds: Any = ()) -> Seen:
    script = PRELUDE + textwrap.dedent(program) + REPORT
    with spawn_with(
        [sys.executable, "-c", script, str(path)],
        fds=fds,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        planted, inside = json.loads(child.stdout.readline())
        outside = audit(child.pid) if OTHERS else []
        child.communicate()
    assert child.returncode == 0
    return Seen(planted, inside, outside)


@pytest.mark.parametrize("way", LEAKS)
def test_a_planted_leak_is_found(way: str, path: Path) -> None:
    seen = look(LEAKS[way], path)
    number, kind = seen.planted
    assert [row[:2] for row in seen.inside] == [[number, kind]]
    if OTHERS:
        assert [row[0] for row in seen.outside] == [number]
    if kind == "file" and way != "a temporary file":
        status = path.stat()
        told = [str(path), f"{status.st_dev:x}:{status.st_ino:x}"]
        assert [row[2:] for row in seen.inside] == [told]
        if OTHERS:
            assert [row[2:] for row in seen.outside] == [told]


def test_what_a_parent_passed_on_is_found(path: Path) -> None:
    with path.open() as file:
        seen = look("planted = number(7)", path, {7: file})
    assert [row[:2] for row in seen.inside] == [[seen.planted, "file"]]
    if OTHERS:
        assert seen.outside == seen.inside


@pytest.mark.parametrize("program", CLEAN)
def test_a_clean_program_gives_no_alarm(program: str, path: Path) -> None:
    with path.open() as file:
        fds = {7: file} if "taken" in program else {}
        seen = look("planted = None\n" + textwrap.dedent(CLEAN[program]), path, fds)
    assert (seen.inside, seen.outside) == ([], [])


class TestOneself:
    def test_everything_is_there_and_nothing_that_was_opened_to_look(self, make_file: Make) -> None:
        make_file()
        audit()  # what it loads may open something for good
        numbers = {each.number for each in audit()}
        if sys.platform == "win32":
            assert numbers == {entry.HandleValue for entry in probe.handles(os.getpid())}
        else:
            assert numbers == probe.held().keys()

    def test_audit_of_oneself_by_number_or_without(self) -> None:
        audit()
        assert audit(os.getpid()) == audit()

    def test_standard_streams_are_not_leaks(self) -> None:
        script = "import noinherit; print([d.standard for d in noinherit.audit() if d.inheritable])"
        done = run_with(
            [sys.executable, "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.stdout == "[True, True, True]\n"

    def test_audit_shows_sockets(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.bind(("127.0.0.1", 0))
        bound, unbound = socket.socket(), socket.socket()
        bound.bind(("127.0.0.1", 0))
        with listener, client, accepted, datagrams, bound, unbound:
            found = {each.number: each for each in audit()}
            at, here = listener.getsockname(), client.getsockname()
            shown, port = "{}:{}".format(*at), here[1]
            assert {
                found[sock.fileno()].name
                for sock in (listener, client, accepted, datagrams, bound, unbound)
            } == {
                f"tcp {shown} listening",
                f"tcp 127.0.0.1:{port} -> {shown}",
                f"tcp {shown} -> 127.0.0.1:{port}",
                f"udp 127.0.0.1:{datagrams.getsockname()[1]}",
                f"tcp 127.0.0.1:{bound.getsockname()[1]}",
                "tcp",
            }
            facts = found[listener.fileno()].socket
            assert facts is not None
            assert (facts.family, facts.type) == ("AF_INET", "SOCK_STREAM")
            assert (facts.local, facts.remote, facts.listening) == (at, None, True)
            facts = found[client.fileno()].socket
            assert facts is not None
            assert (facts.local, facts.remote, facts.listening) == (here, at, False)

    def test_audit_changes_no_socket(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            socket.setdefaulttimeout(50)  # Python would make what it adopts non-blocking
            try:
                assert ours.fileno() in {each.number for each in audit()}
            finally:
                socket.setdefaulttimeout(None)
            threading.Timer(0.1, theirs.sendall, [b"x"]).start()
            assert ours.recv(1) == b"x"

    def test_audit_shows_ipv6_addresses(self) -> None:
        try:
            listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            pytest.skip("this machine has no IPv6")
        with listener:
            (name,) = (each.name for each in audit() if each.number == listener.fileno())
            assert name == f"tcp [::1]:{listener.getsockname()[1]} listening"

    def test_audit_shows_a_socket_without_connections(self) -> None:
        class Datagrams(socket.socket):
            def getsockopt(self, *arguments: Any) -> Any:
                if arguments[1] == socket.SO_ACCEPTCONN:
                    raise OSError(errno.ENOPROTOOPT, "as Windows says")
                return super().getsockopt(*arguments)

            def getsockname(self) -> Any:
                raise OSError("getsockaddrlen: bad family")  # Python's own, for a family unknown

        with Datagrams(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            assert str(socket_facts.facts(sock)) == "udp"


class TestDescriptor:
    def test_a_descriptor_is_a_value(self, make_file: Make) -> None:
        make_file()
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            held = audit()
        again = pickle.loads(pickle.dumps(held))
        assert again == held
        assert {*again} == {*held}
        other = copy.copy(held[0])
        other.number = -5
        assert other != held[0]
        assert held[0] != 3

    def test_a_descriptor_shows_itself(self) -> None:
        assert repr(Descriptor(3, "file", "/x", "1:2", True)) == (
            "Descriptor(number=3, kind='file', name='/x', identity='1:2', inheritable=True, "
            "standard=False, socket=None, access='')"
        )


ACCESS = """
reader, writer = os.pipe()
flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "a": os.O_WRONLY | os.O_APPEND, "rw": os.O_RDWR}
wanted = {number(os.open(path, flags[each])): each.replace("a", "w") for each in flags}
sock = socket.socket()
wanted.update({number(reader): "r", number(writer): "w", sock.fileno(): "rw"})
if hasattr(os, "O_PATH"):
    wanted[os.open(path, os.O_PATH)] = ""
own = {each.number: each.access for each in noinherit.audit()}
assert {each: own[each] for each in wanted} == wanted, (wanted, own)
print(json.dumps(list(wanted.items())), flush=True)
sys.stdin.read()
"""


def test_access_is_what_the_descriptor_was_opened_for(make_file: Make, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    script = textwrap.dedent(PRELUDE) + ACCESS
    pipe = subprocess.PIPE
    with spawn_with([sys.executable, "-c", script, str(path)], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        wanted = dict(json.loads(child.stdout.readline()))
        if OTHERS:
            found = {each.number: each.access for each in audit(child.pid)}
            assert {each: found[each] for each in wanted} == wanted
    assert child.returncode == 0


class TestOthers:
    def test_audit_of_a_missing_process_is_an_error(self) -> None:
        wanted = ProcessLookupError if OTHERS else exceptions.AuditUnsupportedError
        for pid in (2**30, -1, 2**32 + os.getpid()):
            with pytest.raises(wanted):
                audit(pid)

    @pytest.mark.skipif(not OTHERS, reason="other processes cannot be looked into here")
    def test_audit_of_an_ended_process_is_an_error(self) -> None:
        with spawn_with([sys.executable, "-ISc", ""]) as child:
            pass
        # Windows knows it for as long as we have its handle.
        try:
            assert audit(child.pid) == []
        except ProcessLookupError:
            assert sys.platform != "win32"

    def test_audit_of_others_is_refused_where_it_is_impossible(self) -> None:
        error = exceptions.AuditUnsupportedError(5, "darwin")
        again = pickle.loads(pickle.dumps(error))
        assert (again.pid, again.platform) == (5, "darwin")
        assert str(again) == "process 5: on darwin, a process can audit only itself"


def test_a_number_is_shown_as_people_write_it_here() -> None:
    assert _sys.backend.NUMBER_FORMAT.format(20) == ("0x14" if sys.platform == "win32" else "20")
