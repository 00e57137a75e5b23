"""What importing costs."""

from __future__ import annotations

import subprocess
import sys


def imported_with(module: str) -> set[str]:
    """Return the names of the modules that a Python has after importing `module`."""
    # The working directory and what -S leaves out would be looked at first.
    script = f"import sys; sys.path = {sys.path!r}; import {module}; print(*sys.modules)"
    args = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    return {*done.stdout.split()}


def test_noinherit_imports_only_itself_and_what_subprocess_imports() -> None:
    more = imported_with("noinherit") - imported_with("subprocess")
    # collections.abc is another name for what each Python has loaded already.
    others = {name for name in more if not name.startswith("noinherit")}
    assert others <= {"__future__", "collections.abc"}
    # Its own files are few: opening each costs a tenth of a millisecond and more.
    assert len(more) <= 16, sorted(more)


def test_importing_noinherit_loads_neither_ctypes_nor_json_nor_socket() -> None:
    assert imported_with("noinherit").isdisjoint({"ctypes", "json", "socket", "typing", "asyncio"})


def test_looking_up_spawn_with_loads_what_a_spawn_or_inherited_may_need_and_no_more() -> None:
    loaded = imported_with("subprocess, noinherit; noinherit.spawn_with")
    expected = {"__future__", "_socket", "_types", "array", "ctypes", "json", "socket"}
    expected |= {"atexit", "ctypes._layout", "encodings.utf_16_le", "math", "weakref"}  # on Windows
    more = loaded - imported_with("subprocess, json, ctypes, socket") - expected
    assert {name.partition(".")[0] for name in more} <= {"noinherit"}
