"""``noinherit doctor``: the capabilities of this system, and whether the guarantee holds on it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile

from .. import _sys
from .._run_with import run_with
from .._sys.interpreter import required_interpreter
from .output import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Lists its descriptors without any code of noinherit.
_LIST = """
import os
for number in range({limit}):
    try: status = os.fstat(number)
    except OSError: continue
    print(number, status.st_dev, status.st_ino)
"""
_LIMIT = 512


def examine() -> dict[str, Any]:
    """Return the facts: platform, libc, strategy, features, and the outcome of a real spawn."""
    described = _sys.backend.describe()
    return {
        "platform": platform.platform(),
        "python": version(),
        "libc": libc(),
        "strategy": described.strategy,
        "strategies": list(described.strategies),
        "refused": described.refused,
        "guarantee": described.guarantee,
        "exact under threads": described.exact,
        "features": described.features,
        "held": _held(),
    }


def version() -> str:
    """Return name and version of this Python, and whether it runs without a GIL."""
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    name = f"{platform.python_implementation()} {platform.python_version()}"
    return name if has_gil else f"{name}, free-threaded"


def libc() -> str:
    """Return name and version of the C library that runs here, or "unknown"."""
    try:
        # platform.libc_ver() looks at the version that the interpreter was linked with.
        running = os.confstr("CS_GNU_LIBC_VERSION")  # type: ignore[attr-defined,unused-ignore]  # not on Windows
    except (AttributeError, ValueError, OSError):
        running = None
    return running or " ".join(part for part in platform.libc_ver() if part) or "unknown"


def _held() -> bool:
    """Return whether a child holds exactly what it was given, although a stray is open here."""
    python = required_interpreter()
    with tempfile.TemporaryFile() as wanted, tempfile.TemporaryFile() as stray:
        os.set_inheritable(stray.fileno(), True)
        output = run_with(
            [python, "-I", "-S", "-c", _LIST.format(limit=_LIMIT)],
            fds={7: wanted},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        rows = [tuple(map(int, line.split())) for line in output.splitlines()]
        status = os.fstat(wanted.fileno())
        return [row for row in rows if row[0] > 2] == [(7, status.st_dev, status.st_ino)]


def main(as_json: bool) -> int:
    """Print the facts; return 0 if the guarantee holds."""
    facts = examine()
    if as_json:
        for line in json.dumps(facts, indent=2).splitlines():
            say(line)
        return 0 if facts["held"] else 1
    say(f"platform    {facts['platform']}")
    say(f"python      {facts['python']}")
    say(f"libc        {facts['libc']}")
    say(f"strategy    {facts['strategy']} (available: {', '.join(facts['strategies'])})")
    for name, reason in facts["refused"].items():
        say(f"refused     {name}: {reason}; noinherit starts children by another strategy")
    say(f"guarantee   {facts['guarantee']}")
    for name, present in facts["features"].items():
        say(f"{'yes' if present else 'no':<11} {name}")
    say()
    if facts["held"]:
        say("OK: a child was given one descriptor and held exactly that one.")
        return 0
    say("FAILED: a child was given one descriptor and held something else.")
    return 1
