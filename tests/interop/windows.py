"""What Windows programs do with each way to give them something, by both strategies.

    python tools/windows_python.py --newest 3.14 programs FOLDER --write docs/interop-windows.md

Each program has to send back what it reads, changed in its own way, until it sees the end. The exit
status is 0 if each did what `_Program` says. Programs that are not there get no row.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import noinherit
from noinherit import fd_arg

sys.path.insert(0, str(Path(__file__).parent.parent / "helpers"))
from support import wine_version

SECONDS = 20
# Outcomes that the docs explain: libuv's view of pipes, and launchers.
FOR_EVER = "waits for ever"
NO_SOCKET = {"socket": "`NotInheritedError`"}
NO_NUMBERS = NO_SOCKET | dict.fromkeys(("fd", "fd channel"), "`EBADF`")
HEAD = """\
# Programs on Windows

What `tests/interop/windows.py` saw when it was last run, on CPython {python}, {system};
nothing of this ran on Windows itself. Each program has to send back what it reads until it sees
the end. It is given exactly what the column says, once with each
[strategy](gotchas/windows.md#handles-that-must-be-inheritable-to-be-given), `helper-parent` and
`handle-list`. Where the results differ, both are shown. A dash means that the program has no
way to use such a thing.

"""
TAIL = """
- *waits for ever*: libuv does not take a read of no bytes for the end
  ([more](gotchas/windows.md#a-pipe-that-is-a-socket-pair)). As standard input, it sees the end.
- `NotInheritedError`: `inherited()["s"]` says that a launcher did not pass it on. `EBADF`: the
  launcher does not pass on numbers, but handles ([more](gotchas/windows.md#launchers)).
- Not run: `py.exe`, Microsoft's Store's Python and the launcher of a virtual environment, which no
  package of a registry has; Go and Rust beyond programs that read standard input.
"""
STRATEGIES = ("helper-parent", "handle-list")
WAYS = {
    "stdin": "a pipe as stdin",
    "channel": "a channel as stdin, half-closed",
    "fd": "a file as descriptor 3",
    "fd channel": "a channel as descriptor 3, half-closed",
    "handle": "a handle as an argument",
    "socket": "a socket by name",
}
# The same for all that Python runs, launched or not: `way.py WAY [HANDLE]`.
PYTHON = """
import os, sys
way = sys.argv[1]
if way == "socket":
    import noinherit
    with noinherit.inherited()["s"].socket() as sock:
        data = sock.recv(99)
else:
    fd = 3 if way.startswith("fd") else 0
    if way == "handle":
        import msvcrt
        fd = msvcrt.open_osfhandle(int(sys.argv[2]), os.O_RDONLY)
    data = b""
    while some := os.read(fd, 4096):
        data += some
sys.stdout.buffer.write(data.upper())
"""
# Node's and Bun's.
SCRIPT = """
const fs = require("fs"), way = process.argv[process.argv.length - 1];
if (way.startsWith("fd")) {
    const buffer = Buffer.alloc(4096);
    for (let length; (length = fs.readSync(3, buffer)) > 0; )
        fs.writeSync(1, buffer.toString("utf8", 0, length).toUpperCase());
}
else {
    const from = way === "net" ? new (require("net").Socket)({fd: 3}) : process.stdin;
    const parts = [];
    from.on("data", part => parts.push(part));
    from.on("end", () => process.stdout.write(Buffer.concat(parts).toString().toUpperCase()));
}
"""
FFMPEG = ["-v", "error", "-f", "s16le", "-ar", "8000", "-ac", "1", "-i"]
HANDLE = fd_arg("h", "{handle}")


class Program(NamedTuple):
    """How one program is started for each way that it knows, and what it answers."""

    name: str
    args: dict[str, list[Any]]
    question: bytes = b"question"
    answer: bytes = b"QUESTION"
    version: list[str] | None = None
    # What happens else than an answer, and is said in the docs.
    known: dict[str, str] = {}  # noqa: RUF012 -- never changed


def in_python(name: str, *start: Any, known: dict[str, str] | None = None) -> Program:
    """Return the row of a Python: `start` is what comes before the arguments of the script."""
    args = {way: [*start, way, *([HANDLE] if way == "handle" else [])] for way in WAYS}
    return Program(name, args, known=known or {})


def programs(folder: Path) -> Iterator[Program]:
    """Return those that are here; `folder` is for what has to be made first."""
    script = folder / "way.py"
    script.write_text(PYTHON)
    bits = 64 if sys.maxsize > 1 << 32 else 32
    yield in_python(f"Python, {bits} bits", sys.executable, script)
    if other := os.environ.get("OTHER_PYTHON"):
        yield in_python(f"Python, {96 - bits} bits", other, script)
    if (windowed := Path(sys.executable).with_name("pythonw.exe")).exists():
        yield in_python("pythonw", windowed, script)
    for name, width in (("UPPER", 64), ("UPPER32", 32)):
        if path := os.environ.get(name):
            args: dict[str, list[Any]] = {"stdin": [], "channel": [], "fd": ["3"]}
            args |= {"fd channel": ["3"], "handle": ["handle", HANDLE]}
            yield Program(f"C, {width} bits", {way: [path, *args[way]] for way in args})
    yield from _of_registries()
    yield from _launchers(folder)


def _found(name: str) -> str | None:
    """Return the path of a program that tools/windows_python.py has downloaded."""
    paths = sorted(Path(os.environ.get("PROGRAMS", "no programs")).rglob(name))
    return str(paths[0]) if paths else shutil.which(name)


def _of_registries() -> Iterator[Program]:
    for name, path in (("Node", os.environ.get("NODE")), ("Bun", _found("bun.exe"))):
        if path:
            names = ("stdin", "channel", "fd", "fd channel")
            # A `--` so that the script's argument is not taken for the program's.
            yield Program(name, {way: [path, "-e", SCRIPT, "--", way] for way in names})
    if node := os.environ.get("NODE"):
        args = {"fd channel": [node, "-e", SCRIPT, "--", "net"]}
        yield Program("Node's net.Socket,", args, known={"fd channel": FOR_EVER})
    if ffmpeg := _found("ffmpeg*.exe"):
        numbers = {"stdin": 0, "channel": 0, "fd": 3, "fd channel": 3}
        args = {
            way: [ffmpeg, *FFMPEG, f"pipe:{number}", "-f", "s16le", "pipe:1"]
            for way, number in numbers.items()
        }
        yield Program("ffmpeg", args, answer=b"question", version=["-version"])
    for name, path, options, question, answer in (
        ("esbuild (Go)", _found("esbuild.exe"), [], b"let  a = 1", b"let a = 1;\n"),
        ("ruff (Rust)", _found("ruff.exe"), ["format", "-"], b"a=1", b"a = 1\n"),
    ):
        if path:
            args = {way: [path, *options] for way in ("stdin", "channel")}
            yield Program(name, args, question, answer)


def _launchers(folder: Path) -> Iterator[Program]:
    """Return programs that start this Python as a child of their own."""
    interpreter = f"#!{sys.executable}\r\n".encode()
    # Of pip, for the scripts that it installs; of distlib, whose launcher pip has.
    for name in ("t64.exe", "w64.exe"):
        if path := _found(name):
            made = folder / f"way-{name}"
            with zipfile.ZipFile(folder / "way.zip", "w") as archive:
                archive.writestr("__main__.py", PYTHON)
            made.write_bytes(
                Path(path).read_bytes() + interpreter + (folder / "way.zip").read_bytes()
            )
            yield in_python(f"pip's launcher {name}", made, known=NO_SOCKET)
    if path := _found("cli-64.exe"):
        made = folder / "way-cli.exe"
        shutil.copy(path, made)
        (folder / "way-cli-script.py").write_bytes(interpreter + PYTHON.encode())
        yield in_python("setuptools' launcher cli-64.exe", made, known=NO_NUMBERS)
    if path := _found("uv.exe"):
        options = ["--offline", "--no-project", "--no-config", "--no-cache"]
        command = [path, "run", *options, "--python", sys.executable, "python"]
        yield in_python("uv run", *command, folder / "way.py", known=NO_NUMBERS)


@contextlib.contextmanager
def _given(way: str, question: bytes) -> Iterator[tuple[dict[str, Any], Callable[[], Any]]]:
    """Return what `spawn_with` is given, and what to call once the child runs."""
    with contextlib.ExitStack() as stack:
        give: Callable[[], Any] = lambda: None  # noqa: E731 -- nothing more to do
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL}
        if way == "stdin":
            options = {"stdin": subprocess.PIPE}
        elif way in ("fd", "handle"):
            file = stack.enter_context(tempfile.TemporaryFile())
            file.write(question)
            file.seek(0)
            options["fds"] = {3 if way == "fd" else "h": file}
        elif way == "socket":
            ours, theirs = map(stack.enter_context, socket.socketpair())
            ours.sendall(question)
            options["fds"] = {"s": theirs}
        else:
            channel, end = map(stack.enter_context, noinherit.socketpair())

            def give() -> None:
                end.close()
                channel.settimeout(SECONDS)
                with contextlib.suppress(OSError):  # a child that has failed says why
                    channel.sendall(question)
                    channel.shutdown(socket.SHUT_WR)

            options = {"stdin": end} if way == "channel" else options | {"fds": {3: end}}
        yield options, give


def outcome(program: Program, way: str) -> str:
    """Return what `program` makes of one way."""
    with _given(way, program.question) as (options, give):
        child = noinherit.spawn_with(
            program.args[way], **options, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with child:
            # What waits for the end of its input is ended, and that is the outcome.
            giving = threading.Thread(target=give)
            giving.start()
            try:
                question = program.question if way == "stdin" else None
                answer, errors = child.communicate(question, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
                return FOR_EVER
            finally:
                giving.join()
    if answer == program.answer:
        return "works"
    said = errors.decode(errors="replace").strip().splitlines() or [f"status {child.returncode}"]
    named = re.search(r"NotInheritedError(?=: 's': .*launcher)|Errno 9\b", said[-1])
    return f"`{named[0].replace('Errno 9', 'EBADF')}`" if named else said[-1]


def version(program: Program) -> str:
    """Return the version that a program says that it has."""
    path = str(next(iter(program.args.values()))[0])
    if program.name.startswith(("C,", "pip", "setuptools", "pythonw")):
        return ""
    said = subprocess.run(
        [path, *(program.version or ["--version"])], capture_output=True, text=True, check=False
    )
    match = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
    return match[0] if match else ""


def row(program: Program, wrong: list[str]) -> str:
    """Return a row of the table."""
    cells = [f"{program.name} {version(program)}".strip()]
    for way in WAYS:
        if way not in program.args:
            cells.append("-")
            continue
        seen = {}
        for strategy in STRATEGIES:
            os.environ["NOINHERIT_STRATEGY"] = strategy
            seen[strategy] = outcome(program, way)
            if seen[strategy] != program.known.get(way, "works"):
                wrong.append(f"{program.name}, {way}, {strategy}: {seen[strategy]}")
        if len({*seen.values()}) == 1:
            cells.append(seen[STRATEGIES[0]])
        else:
            cells.append("; ".join(f"`{name}`: {what}" for name, what in seen.items()))
    return f"| {' | '.join(cells)} |\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", type=Path, help="where to write the table")
    options = parser.parse_args()
    wrong: list[str] = []
    table = f"| program | {' | '.join(WAYS.values())} |\n{'|---' * (len(WAYS) + 1)}|\n"
    with tempfile.TemporaryDirectory() as folder:
        for program in programs(Path(folder)):
            line = row(program, wrong)
            print(line, end="", flush=True)
            table += line
    if options.write:
        system = f"Wine {wine_version()}" if wine_version() else platform.platform()
        head = HEAD.format(system=system, python=platform.python_version())
        options.write.write_text(head + table + TAIL, encoding="utf-8")
    for each in wrong:
        print("WRONG:", each)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
