"""Children that bear witness."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import noinherit

# Wine is Windows but for its speed and its faults; tests that skip there say which of them it is.
WINE = sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")
# Where a socket is a descriptor like another.
SOCKETS = sys.platform != "win32"
# Something that ends at once, and how often a test can start it.
CHEAP, OFTEN = (
    (["true"], 1000) if shutil.which("true") else ([sys.executable, "-IS", "-c", ""], 100)
)
PROBE = [sys.executable, "-I", "-S", str(Path(__file__).with_name("probe.py"))]


class Witness:
    """What an independent child of `spawn_with` saw of itself."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.fds: dict[int, str] = {int(number): who for number, who in report["fds"].items()}
        self.handles: dict[int, str] = report["handles"]
        self.args: list[str] = report["args"]

    @property
    def extra(self) -> dict[int, str]:
        return {number: who for number, who in self.fds.items() if number > 2}


def witness(fds: Any = (), args: Any = (), **options: Any) -> Witness:
    """Spawn the probe with `fds` and return what it saw."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    with noinherit.spawn_with([*PROBE, *args], fds=fds, **options) as child:
        output, _ = child.communicate()
    assert child.returncode == 0
    seen = Witness(json.loads(output))
    # On Windows, descriptors are half of the truth: there must be no handle beyond them, either.
    assert len(seen.handles) in (0, len(seen.fds))
    return seen
