"""systemd's socket activation (:manpage:`sd_listen_fds(3)`): the variables that announce it."""

from __future__ import annotations

from . import _sys
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._entry import Entry, Key

FIRST = 3  # SD_LISTEN_FDS_START


def variables(keys: Iterable[Key], entries: Iterable[Entry]) -> dict[str, str]:
    """Return the variables that announce `keys` of ``fds``, but for ``LISTEN_PID``.

    Raises `UnsupportedOptionError` if they cannot be announced in this order.
    """
    if not _sys.backend.SPEAKS_LISTEN_FDS:
        instead = "systemd's protocol is for POSIX; here, inherited() has them by the same keys"
        raise UnsupportedOptionError("listen_fds", repr(list(keys)), instead)
    numbers = {entry.key: entry.number for entry in entries}
    seen = set()
    for index, key in enumerate(keys):
        reason = None
        if key not in numbers:
            reason = "fds has no such key"
        elif key in seen:
            reason = "it is listed twice"
        elif numbers[key] != FIRST + index:
            reason = f"by its place it has to be {FIRST + index}"
        elif isinstance(key, str) and not (
            key.isascii() and key.isprintable() and ":" not in key and len(key) < 256
        ):
            reason = "LISTEN_FDNAMES can carry up to 255 printable ASCII characters, and no colon"
        if reason is not None:
            raise UnsupportedOptionError(f"listen_fds[{index}]", repr(key), reason)
        seen.add(key)
    # "unknown" is what systemd calls a descriptor without a name.
    names = [key if isinstance(key, str) else "unknown" for key in keys]
    return {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
