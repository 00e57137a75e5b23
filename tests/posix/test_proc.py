"""What is particular to Linux: another process as /proc tells of it."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux's /proc", allow_module_level=True)
assert sys.platform == "linux"

import contextlib
import json
import os
import pickle
import re
import select
import shutil
import subprocess
from pathlib import Path

from capabilities import needs_o_path, needs_program, needs_root
from noinherit import audit, spawn_with
from noinherit._sys.posix import linux_proc
from support import HELPERS, command

MANY = r"""
import os, pickle, select, socket, sys
import noinherit
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
accepted, _ = listener.accept()
v6 = socket.create_server(("::1", 0), family=socket.AF_INET6) if socket.has_ipv6 else None
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", 0))
unbound = [
    socket.socket(),
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    socket.socket(socket.AF_UNIX),
]
pair = socket.socketpair()
named, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
named.bind(sys.argv[1] + "/a socket")
named.listen()
awkward = socket.socket(socket.AF_UNIX)
awkward.bind(sys.argv[1] + "/  \udcff ")
abstract.bind("\0" + sys.argv[1])
pipe = os.pipe()
poll = select.epoll()
file = open(sys.argv[1] + "/gone", "w")
os.set_inheritable(file.fileno(), True)
os.unlink(file.name)
directory = os.open("/", os.O_RDONLY)
pickle.dump(noinherit.audit(), sys.stdout.buffer)
sys.stdout.flush()
sys.stdin.read()
"""


def test_audit_of_a_process_agrees_with_its_own_audit(tmp_path: Path) -> None:
    with spawn_with(
        [sys.executable, "-c", MANY, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        told = pickle.load(child.stdout)
        seen = audit(child.pid)
        child.communicate()
    assert seen == told
    names = {each.name for each in seen}
    assert {
        "tcp",
        "udp",
        "unix",
        f"unix {tmp_path}/a socket listening",
        f"AF_UNIX SOCK_DGRAM @{tmp_path}",
        f"{tmp_path}/gone (deleted)",
        "/",
    } < names
    assert {"eventpoll", "directory", "pipe", "socket", "file"} <= {each.kind for each in seen}


EXHAUSTED = """
import os, resource, socket
import noinherit
noinherit.audit()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
sockets = []
try:
    while True: sockets.append(socket.socket())
except OSError:
    found = noinherit.audit()
sockets.pop().close()
assert len(found) == 64, len(found)
assert found[63].name.startswith("socket:["), found
# And with a single one left, all there is to tell.
found = noinherit.audit()
assert len(found) == 63, len(found)
assert found[62].name == "tcp", found
for each in sockets: each.close()
print("held")
"""


def test_audit_works_when_too_many_files_are_open() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("held\n", "")


# What only the owner of such a socket can be told.
NOINHERIT = [sys.executable, "-m", "noinherit"]
ODD = [sys.executable, "-IS", str(Path(HELPERS, "odd_files.py"))]


@needs_root
@pytest.mark.parametrize(
    ("odd", "device", "kind", "name"),
    [
        ("tun", "/dev/net/tun", "character device", "/dev/net/tun"),
        ("others", "/dev/fuse", "other", "/mnt/file"),
        ("silent", "/dev/fuse", "file", "/mnt/file"),
    ],
)
def test_an_odd_descriptor_does_not_spoil_the_audit(
    odd: str, device: str, kind: str, name: str
) -> None:
    if not Path(device).exists():
        pytest.skip(f"needs {device}")
    with spawn_with([*ODD, odd], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        try:
            number = int(holder.stdout.readline())
            looking = subprocess.Popen(
                [*NOINHERIT, "audit", "--json", str(holder.pid)],
                stdout=subprocess.PIPE,
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                looking.wait(20)
        finally:
            assert holder.stdin is not None
            holder.stdin.close()  # ends the file server: what waits for it cannot be killed before
        printed, _ = looking.communicate()
    facts = json.loads(printed)
    found = {each["number"]: each for each in facts["descriptors"]}
    assert {0, 1, 2, number} <= found.keys()
    assert (found[number]["kind"], found[number]["name"]) == (kind, name)


# A path that is longer than readlink(2) tells, and a socket that is no open socket.
NAMED = """
import os, socket, sys
os.chdir(sys.argv[1])
bound = socket.socket(socket.AF_UNIX)
bound.bind("socket:[1]")
path = os.open("socket:[1]", os.O_PATH)
for _ in range(20):
    os.mkdir("d" * 250)
    os.chdir("d" * 250)
print(path, os.open("f", os.O_RDWR | os.O_CREAT), flush=True)
sys.stdin.read()
"""


@needs_o_path
def test_an_odd_name_does_not_spoil_the_audit(tmp_path: Path) -> None:
    args = [sys.executable, "-c", NAMED, str(tmp_path)]
    with spawn_with(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        path, file = map(int, child.stdout.readline().split())
        found = {each.number: each for each in audit(child.pid)}
        holders, _ = linux_proc.holders({found[file].identity}, os.getpid())
        child.communicate()
    assert holders == {found[file].identity: [child.pid]}
    assert {0, 1, 2, path, file} <= found.keys()
    assert (found[path].kind, found[path].name) == ("socket", f"{tmp_path}/socket:[1]")
    assert (found[file].kind, found[file].name) == ("file", "")


OWN = """
import noinherit, os, sys
sys.path.insert(0, sys.argv[2])
import odd_files
number = odd_files.fuse(0, 0)
(found,) = (each for each in noinherit.audit() if each.number == number)
os.set_inheritable(number, True)
with noinherit.trace() as tracing:
    sys.audit("os.system", b"true")  # a child that ends would ask the server
(leak,) = (each for each in tracing.leaks if each.descriptor.number == number)
print(found.kind, found.name, leak.descriptor.name, flush=True)
os._exit(0)
"""


@needs_root
def test_an_own_file_whose_server_is_silent() -> None:
    if not Path("/dev/fuse").exists():
        pytest.skip("needs /dev/fuse")
    args = [sys.executable, "-c", OWN, "silent", HELPERS]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 20)
        process.stdin.close()  # ends the file server
        expected = b"file /mnt/file /mnt/file\n"
        assert (bool(ready), process.stdout.readline()) == (True, expected)


@needs_root
@needs_program("unshare", "mount")
def test_without_proc() -> None:
    hide = 'mount --make-rprivate / && mount -t tmpfs none /proc && exec "$@"'
    done = subprocess.run(
        [*("unshare", "--mount", "sh", "-c", hide, "sh"), *NOINHERIT, "audit", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith(
        "process 1: on Linux without /proc, a process can audit only itself\n"
    )


def test_a_zombie_and_a_kernel_thread() -> None:
    zombie = subprocess.Popen([sys.executable, "-ISc", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    done = command("audit", str(zombie.pid))
    zombie.wait()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        rf"process {zombie.pid} \(.+\): a zombie: it has ended and holds nothing, "
        r"but its parent has not waited for it\n",
        done.stdout,
    )
    if Path("/proc/2/comm").exists() and Path("/proc/2/comm").read_text() == "kthreadd\n":
        assert command("audit", "2").stdout == (
            "process 2 (kthreadd): a kernel thread: it has no descriptors\n"
        )


def test_by_name() -> None:
    name = Path("/proc/self/stat").read_text().partition("(")[2].rpartition(")")[0]
    done = command("audit", "--json", "--name", name, "--name", "no such name")
    assert (done.returncode, done.stderr) == (
        2,
        "noinherit audit: error: no process is called no such name\n",
    )
    found = json.loads(done.stdout)
    every = found if isinstance(found, list) else [found]
    (own,) = (each for each in every if each["pid"] == os.getpid())
    assert own["name"] == name


def test_audit_reads_the_process_own_network_namespace() -> None:
    unshare = ["unshare", "--net"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("a network namespace cannot be made here")
    script = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 5353))
print(flush=True)
sys.stdin.read()
"""
    with spawn_with(
        [*unshare, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert audit(child.pid)[3].name == "udp 0.0.0.0:5353"
        child.communicate()


def test_a_process_that_may_not_be_read_is_refused() -> None:
    if Path("/proc/1").stat().st_uid:
        pytest.skip("no other user's process is known here")
    # Whoever is not root may not look at root's.
    script = """
import os
import noinherit
noinherit.audit(), noinherit.audit(os.getppid())  # loads all while it can be read
if os.getuid() == 0:
    os.setuid(65534)
try:
    noinherit.audit(1)
except PermissionError as error:
    print(error.strerror)
noinherit.audit()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("Permission denied\n", "")
