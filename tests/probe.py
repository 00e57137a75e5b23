"""An independent child: prints, as JSON, which descriptors it holds and what they are.

It must not import noinherit: it is the witness. Run it as ``python -I -S probe.py``. Prints
``{"fds": {number: identity}, "args": [...]}``, with an identity as `identity` gives it; anything
on standard input is left alone.
"""

from __future__ import annotations

import json
import os
import sys


def identity(fd: int) -> str:
    status = os.fstat(fd)
    return f"{status.st_dev}:{status.st_ino}"


def held() -> dict[int, str]:
    try:
        names = os.listdir("/proc/self/fd")  # noqa: PTH208 -- the least that can be opened for it
        numbers = [int(name) for name in names]
    except OSError:
        numbers = list(range(os.sysconf("SC_OPEN_MAX") if hasattr(os, "sysconf") else 2048))
    found = {}
    for number in numbers:
        try:
            found[number] = identity(number)
        except OSError:  # the descriptor that listed the others is closed again
            continue
    return found


if __name__ == "__main__":
    # The interpreter ignores SIGPIPE and so would not notice that nobody reads.
    print(json.dumps({"fds": held(), "args": sys.argv[1:]}), flush=True)
