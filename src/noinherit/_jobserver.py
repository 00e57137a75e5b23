"""The descriptors of GNU make's jobserver, for a child that takes part in it."""

from __future__ import annotations

import os
import re
import stat

from ._sys import trust

__all__ = ["jobserver_fds"]

# The second is the spelling of GNU make 4.1 and older.
_OPTIONS = ("--jobserver-auth=", "--jobserver-fds=")


def jobserver_fds() -> dict[int, int]:
    """Return the descriptors of GNU make's jobserver, ready for ``fds``.

    A make that this program starts then shares the job slots of the make that started this program.
    See "Sharing Job Slots with GNU make" in GNU make's manual.

    >>> jobserver_fds()  # not below a make
    {}

    :returns:
       ``{R: R, W: W}`` for ``--jobserver-auth=R,W`` in ``MAKEFLAGS``: the child reads these numbers
       from the same variable. The dict is empty in these cases:

       - No jobserver exists.
       - The child opens the jobserver by name (``fifo:PATH``, a semaphore on Windows).
       - make did not pass the jobserver to this process, because the recipe's line neither begins
         with ``+`` nor calls ``$(MAKE)``.
       - This process has more rights than its starter, such as a set-user-ID program: the starter
         must not choose which of its pipes a child receives.

    Availability: Linux, macOS, BSD, Windows; on Windows always empty.
    """
    if trust.why_privileged():
        return {}
    found = ""
    for word in os.environ.get("MAKEFLAGS", "").split():
        if word == "--":
            break  # variables follow, whose values may look like anything
        for option in _OPTIONS:
            if word.startswith(option):
                found = word[len(option) :]  # the last one counts
    numbers = [int(number) for number in found.split(",") if re.fullmatch("[0-9]{1,9}", number)]
    if len(numbers) == 2 and all(map(_is_pipe, numbers)):
        return {number: number for number in numbers}
    return {}


def _is_pipe(number: int) -> bool:
    # If make did not pass the descriptor on, the number is closed, or an unrelated file has it.
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except (OSError, OverflowError):
        return False
