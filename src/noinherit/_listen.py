"""The environment variables of systemd's socket activation (:manpage:`sd_listen_fds(3)`)."""

from __future__ import annotations

from . import _sys
from ._entry import key_of
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._entry import Entry, Key

FIRST = 3  # SD_LISTEN_FDS_START


def variables(keys: Sequence[Key], entries: Iterable[Entry]) -> dict[str, str]:
    """Return all variables that announce `keys` of ``fds``, except ``LISTEN_PID``; {} without keys.

    Raises `UnsupportedOptionError` if the protocol cannot announce them in this order.
    """
    if not keys:
        return {}
    if not _sys.backend.SPEAKS_LISTEN_FDS:
        instead = (
            "systemd's protocol exists on POSIX only; "
            "use fds alone, and noinherit.inherited() in the child"
        )
        raise UnsupportedOptionError("listen_fds", repr(list(keys)), instead)
    numbers = {entry.key: entry.number for entry in entries}
    seen = set()
    for index, key in enumerate(keys):
        reason = None
        if key_of(key) is None or key not in numbers:
            reason = "no such key in fds"
        elif key in seen:
            reason = "it is listed twice"
        elif numbers[key] != FIRST + index:
            reason = f"must be descriptor {FIRST + index}, not {numbers[key]}: use a name"
        elif isinstance(key, str) and not (
            key.isascii() and key.isprintable() and ":" not in key and len(key) < 256
        ):
            reason = (
                "a name in LISTEN_FDNAMES must be printable ASCII without a colon, "
                "at most 255 characters"
            )
        if reason is not None:
            raise UnsupportedOptionError(f"listen_fds[{index}]", repr(key), reason)
        seen.add(key)
    # systemd's own name for a descriptor without one is "unknown".
    names = [key if isinstance(key, str) else "unknown" for key in keys]
    return {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}
