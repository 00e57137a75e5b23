"""What a child needs to take part in GNU make's jobserver."""

from __future__ import annotations

import os
import stat

__all__ = ["jobserver_fds"]

# The second is what GNU make 4.1 and older say.
_OPTIONS = ("--jobserver-auth=", "--jobserver-fds=")


def jobserver_fds() -> dict[int, int]:
    """Return what GNU make's jobserver gave to this process, ready for ``fds``.

    From ``MAKEFLAGS``: ``--jobserver-auth=R,W`` makes it ``{R: R, W: W}``, under the numbers that
    the child will read from the same variable. Empty if a child needs no descriptor: there is no
    jobserver, or it is one that a child opens by name (``fifo:PATH``, a semaphore on Windows); or
    make gave it to others only, because the recipe's line neither begins with ``+`` nor calls
    ``$(MAKE)``. (GNU make's manual, "Sharing Job Slots with GNU make".)

    >>> jobserver_fds()
    {}
    """
    told = ""
    for word in os.environ.get("MAKEFLAGS", "").split():
        if word == "--":
            break  # variables follow, whose values may look like anything
        for option in _OPTIONS:
            if word.startswith(option):
                told = word[len(option) :]  # the last one counts
    numbers = [int(number) for number in told.split(",") if number.isascii() and number.isdigit()]
    if len(numbers) == 2 and all(map(_is_pipe, numbers)):
        return {number: number for number in numbers}
    return {}


def _is_pipe(number: int) -> bool:
    # What make did not pass on is closed here, or something else by now.
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except (OSError, OverflowError):
        return False
