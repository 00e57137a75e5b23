"""The manifest: one environment variable that describes the handed-over descriptors to the child.

It is JSON in ASCII: ``{"v": 1, "fds": [[key, number, kind, identity], ...]}``.

The identity distinguishes the handed-over descriptor from a later one with the same number. Without
it, a grandchild that inherited only the variable would take over an unrelated descriptor.
"""

from __future__ import annotations

import json

from ._identity import kind_and_identity
from .exceptions import MalformedManifestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._entry import Key
    from ._sys.api import Described, Shared

VARIABLE = "NOINHERIT_FDS"
_VERSION = 1
_HIGHEST = 2**31 - 1


class Record:
    """One handed-over descriptor: a record of the manifest."""

    __slots__ = ("identity", "key", "kind", "number", "shared")

    def __init__(self, key: Key, number: int, kind: str, identity: str) -> None:
        self.key = key
        self.number = number
        self.kind = kind
        self.identity = identity
        # Windows only: the socket, once the child has opened it. Not part of the manifest.
        self.shared: Shared | None = None


def record(key: Key, number: int, fd: int | str) -> Record:
    """Return a record of `fd` under `number`; `fd` is a descriptor or a path in /proc."""
    return Record(key, number, *kind_and_identity(fd))


def encode(described: Iterable[Described]) -> str:
    """Return the manifest of `described`."""
    quoted = json.encoder.encode_basestring_ascii
    # Formatted by hand: json.dumps takes three times as long.
    texts = [
        f"[{each.key if isinstance(each.key, int) else quoted(each.key)},{each.number},"
        f"{quoted(each.kind)},{quoted(each.identity)}]"
        for each in described
    ]
    return f'{{"v":{_VERSION},"fds":[{",".join(texts)}]}}'


def decode(text: str) -> list[Record]:
    """Return the records of the manifest `text`, or raise `MalformedManifestError`."""

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
                # bool is a subclass of int in Python: exclude JSON's true and false.
                0 <= number <= _HIGHEST and key != "" and bool not in (type(key), type(number))
            ):
                records.append(Record(key, number, kind, identity))
            case _:
                raise malformed(f"{row!r} is not [key, number, kind, identity]")
    for facts in ("key", "number"):
        if len({getattr(record, facts) for record in records}) != len(records):
            raise malformed(f"a {facts} occurs twice")
    return records
