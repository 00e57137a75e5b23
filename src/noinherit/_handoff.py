"""The manifest: what the parent wrote about the descriptors it handed over.

One environment variable, JSON in ASCII: ``{"v": 1, "fds": [[key, number, kind, identity], ...]}``.
The identity is what tells a descriptor of ours from another that took its number later: without
it, a grandchild that merely inherited the variable would take what is not its own.
"""

from __future__ import annotations

import os
import stat

from .exceptions import MalformedManifestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._plan import Key

VARIABLE = "NOINHERIT_FDS"
_VERSION = 1
_HIGHEST = 2**31 - 1

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "pipe",
    stat.S_IFDIR: "directory",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


class Record:
    """One handed-over descriptor, as the manifest tells it."""

    __slots__ = ("identity", "key", "kind", "number")

    def __init__(self, key: Key, number: int, kind: str, identity: str) -> None:
        self.key = key
        self.number = number
        self.kind = kind
        self.identity = identity


def record(key: Key, number: int, fd: int) -> Record:
    """Return the record that `fd`, open in this process, has under `number`."""
    status = os.fstat(fd)
    # Epoll, eventfd and their like have no file type at all.
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
    return Record(key, number, kind, f"{status.st_dev:x}:{status.st_ino:x}")


def encode(records: Iterable[Record]) -> str:
    """Return the manifest of `records`."""
    import json  # noqa: PLC0415 -- a third of what importing subprocess costs

    rows = [[record.key, record.number, record.kind, record.identity] for record in records]
    return json.dumps({"v": _VERSION, "fds": rows}, separators=(",", ":"))


def decode(text: str) -> list[Record]:
    """Return the records of the manifest `text`, or raise `MalformedManifestError`."""
    import json  # noqa: PLC0415 -- only a child that was handed something pays for it

    def malformed(reason: str) -> MalformedManifestError:
        return MalformedManifestError(VARIABLE, text, reason)

    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        raise malformed("not JSON") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("fds"), list):
        raise malformed("not a manifest")
    if manifest.get("v") != _VERSION:
        raise malformed(f"version {manifest.get('v')!r}; this noinherit reads {_VERSION}")
    records: list[Record] = []
    for row in manifest["fds"]:
        match row:
            case [int() | str() as key, int() as number, str() as kind, str() as identity] if (
                0 <= number <= _HIGHEST and key != ""
            ):
                records.append(Record(key, number, kind, identity))
            case _:
                raise malformed(f"{row!r} is not [key, number, kind, identity]")
    for facts in ("key", "number"):
        if len({getattr(record, facts) for record in records}) != len(records):
            raise malformed(f"a {facts} occurs twice")
    return records
