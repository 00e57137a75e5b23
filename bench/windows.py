"""What is compared on Windows; prints the cases as JSON, for the Windows Python may be Wine's."""

from __future__ import annotations

import json
import msvcrt
import os
import subprocess
import sys
from pathlib import Path

from measure import OURS, medians, timed

import noinherit

CHILD = [os.path.join(os.environ["SYSTEMROOT"], "system32", "where.exe"), "/?"]


def main() -> None:
    """Compare, with 1 and 8 handles."""
    rounds = int(sys.argv[1])
    cases = {}
    for count in (1, 8):
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]
        handles = [msvcrt.get_osfhandle(file) for file in files]
        for handle in handles:
            os.set_handle_inheritable(handle, True)

        def popen(handles: list[int] = handles) -> None:
            startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": handles})
            subprocess.Popen(CHILD, startupinfo=startup, **QUIET).wait()

        def ours(files: list[int] = files) -> None:
            noinherit.spawn_with(CHILD, fds=dict(enumerate(files, 3)), **QUIET).wait()

        cases[str(count)] = medians({OURS: timed(ours), "Popen": timed(popen)}, rounds)
    print("CASES", json.dumps(cases), flush=True)


QUIET = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
