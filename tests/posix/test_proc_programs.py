"""What is particular to Linux: other programs, and lsof's word for what they hold."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("needs Linux's /proc", allow_module_level=True)
assert sys.platform == "linux"

import contextlib
import http.client
import json
import os
import re
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from capabilities import needs_root
from noinherit import spawn_with
from support import command, free_port


def missing(*programs: str) -> str | None:
    for program in programs:
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return None


NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{}}
http {{
    access_log access.log;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "here"; }} }}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield process id and port of an nginx that has answered a request."""
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(port=port))
    with spawn_with(
        ["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"],
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
    ) as child:
        try:
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                with contextlib.closing(connection):
                    try:
                        connection.request("GET", "/")
                    except ConnectionRefusedError:
                        assert child.poll() is None, (folder / "error.log").read_text()
                        continue
                    assert connection.getresponse().read() == b"here"
                    break
            yield child.pid, port
        finally:
            child.terminate()


@pytest.mark.skipif(
    bool(missing("lsof")) or not (shutil.which("nginx") or Path("/usr/sbin/nginx").exists()),
    reason="needs nginx and lsof, which .ci/run installs",
)
class TestNginx:
    def test_audit_agrees_with_lsof_and_proc(self, tmp_path: Path) -> None:
        with nginx(tmp_path) as (pid, port):
            done = command("audit", str(pid), "--json")
            table = command("audit", str(pid)).stdout
            listed = lsof(pid)
            proc = {
                int(path.name): (
                    str(path.readlink()),
                    Path(f"/proc/{pid}/fdinfo/{path.name}").read_text(),
                )
                for path in Path(f"/proc/{pid}/fd").iterdir()
            }
        facts = json.loads(done.stdout)
        told = {each["number"]: each for each in facts["descriptors"]}
        assert told.keys() == listed.keys() == proc.keys()
        for number, each in told.items():
            link, info = proc[number]
            flags = int(re.findall(r"^flags:\s+(\d+)$", info, re.MULTILINE)[0], 8)
            assert each["inheritable"] is not bool(flags & os.O_CLOEXEC)
            access, kind, name = listed[number]
            assert each["access"] == {"u": "rw"}.get(access, access)
            if each["kind"] == "socket":
                assert each["identity"].endswith(f":{int(link[8:-1]):x}")
            else:
                assert each["name"] == link
            if kind in ("REG", "CHR", "DIR"):
                assert each["name"] == name
            if kind == "IPv4":
                assert each["name"] == f"tcp {name} listening"
        listeners = [each for each in told.values() if each["socket"] and each["leaks"]]
        assert [each["socket"]["local"] for each in listeners] == [["127.0.0.1", port]]
        # nginx itself opens its files without close-on-exec.
        assert done.returncode == 1
        assert facts["leaks"] == sum(each["leaks"] for each in told.values()) > 1
        row = rf"^ +\d+  LEAKS +rw +socket +tcp 127.0.0.1:{port} listening$"
        assert re.search(row, table, re.MULTILINE)


def lsof(pid: int) -> dict[int, tuple[str, str, str]]:
    """Return lsof's words for access, kind and name of everything `pid` has open, by number."""
    done = subprocess.run(
        ["lsof", "-nP", "-p", str(pid), "-F", "fatn"], capture_output=True, text=True, check=False
    )
    found = re.findall(r"^f(\d+)\na(.)\n(?:l.*\n)?t(.*)\nn(.*)$", done.stdout, re.MULTILINE)
    return {int(number): (access, kind, name) for number, access, kind, name in found}


def test_holders_are_shown(tmp_path: Path) -> None:
    script = "import select, sys; e = select.epoll(); print(flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with (
        (tmp_path / "file").open("w") as file,
        spawn_with([sys.executable, "-c", script], fds=[file], stdin=pipe, stdout=pipe) as child,
    ):
        assert child.stdout is not None
        child.stdout.readline()
        event = select.epoll()
        number = event.fileno()
        done = command("audit", str(os.getpid()), "--holders", "--json")
        shown = command("audit", str(os.getpid()), "--holders").stdout
        event.close()
        held = {each["number"]: each for each in json.loads(done.stdout)["descriptors"]}
        assert done.returncode in (0, 1)
        (holder,) = held[file.fileno()]["holders"]
        assert holder["pid"] == child.pid
        assert held[number]["holders"] == [], "all of them have one inode"
        note = f"        also held by {child.pid} ({holder['name']})"
        row = next(line for line in shown.splitlines() if str(tmp_path) in line)
        assert f"{row}\n{note}\n" in shown


@needs_root
def test_processes_of_other_users_are_counted() -> None:
    script = (
        "import os; from noinherit import _sys; look = _sys.audit.holders; "
        "look({''}, 0); os.setuid(65534); print(look({''}, 0)[1])"
    )
    with spawn_with([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert int(child.stdout.read()) >= 1, "this process"
