"""The manifest: what the parent wrote about the descriptors it handed over.

One environment variable, JSON in ASCII: ``{"v": 1, "fds": [[key, number, kind, identity], ...]}``.
The identity is what tells a descriptor of ours from another that took its number later: without
it, a grandchild that merely inherited the variable would take what is not its own.
"""

from __future__ import annotations

import functools

from ._identity import kind_and_identity
from .exceptions import MalformedManifestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._entry import Key
    from ._sys.api import Described, Shared

VARIABLE = "NOINHERIT_FDS"
_VERSION = 1
_HIGHEST = 2**31 - 1


class Record:
    """One handed-over descriptor, as the manifest tells it."""

    __slots__ = ("identity", "key", "kind", "number", "shared")

    def __init__(self, key: Key, number: int, kind: str, identity: str) -> None:
        self.key = key
        self.number = number
        self.kind = kind
        self.identity = identity
        # A socket that a child on Windows has opened already; not in the manifest.
        self.shared: Shared | None = None


def record(key: Key, number: int, fd: int | str) -> Record:
    """Return the record that `fd`, open here or a path of one in /proc, has under `number`."""
    return Record(key, number, *kind_and_identity(fd))


@functools.cache
def _quoting() -> Callable[[str], str]:
    import json.encoder  # noqa: PLC0415 -- a third of what importing subprocess costs

    return json.encoder.encode_basestring_ascii


def encode(described: Iterable[Described]) -> str:
    """Return the manifest of `described`."""
    quoted = _quoting()
    # An encoder that takes anything takes three times as long for one of them.
    texts = [
        f"[{each.key if isinstance(each.key, int) else quoted(each.key)},{each.number},"
        f"{quoted(each.kind)},{quoted(each.identity)}]"
        for each in described
    ]
    return f'{{"v":{_VERSION},"fds":[{",".join(texts)}]}}'


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
                # To Python, JSON's true is a number.
                0 <= number <= _HIGHEST and key != "" and bool not in (type(key), type(number))
            ):
                records.append(Record(key, number, kind, identity))
            case _:
                raise malformed(f"{row!r} is not [key, number, kind, identity]")
    for facts in ("key", "number"):
        if len({getattr(record, facts) for record in records}) != len(records):
            raise malformed(f"a {facts} occurs twice")
    return records
