"""Fuzzes the manifest's parser: ``tox -e fuzz``, ``tox -e fuzz -- -max_total_time=3600``.

Needs atheris, which is not for every Python and not for Windows. What goes wrong ends it with a
traceback, and leaves a file that it takes as an argument, to do the same again.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["noinherit", "json"]):
    from noinherit import _handoff
    from noinherit.exceptions import MalformedManifestError

HIGHEST = 2**31 - 1


def value(data: Any) -> Any:
    """Return what may stand in a row, mostly of the kind that belongs there."""
    choices: list[Any] = [
        data.ConsumeUnicode(4),
        data.ConsumeIntInRange(-1, 3),
        data.ConsumeIntInRange(HIGHEST - 1, HIGHEST + 1),
        "file",
        "1:1",
        data.PickValueInList([None, True, 1.5, float("nan"), [], {}, "\ud800", 10**30]),
    ]
    return data.PickValueInList(choices)


def manifest(data: Any) -> str:
    """Return something near a manifest: at random, bytes would never get past JSON."""
    rows = [
        [value(data) for _ in range(data.PickValueInList([4, 4, 4, 3, 5]))]
        for _ in range(data.ConsumeIntInRange(0, 3))
    ]
    if data.ConsumeBool():
        rows = [["abc"[n % 3], n, "file", "1:1"] for n in range(len(rows))] + rows
    version = data.PickValueInList([1, 1, 1, 1, 2, "1", None])
    return json.dumps(data.PickValueInList([{"v": version, "fds": rows}, rows]))


def decode(data: bytes) -> None:
    """Decode what the environment could hold."""
    provider = atheris.FuzzedDataProvider(data)
    if provider.ConsumeBool():
        text = manifest(provider)
    else:
        text = provider.ConsumeBytes(len(data)).decode("utf-8", "surrogateescape")
    try:
        records = _handoff.decode(text)
    except MalformedManifestError:
        return
    for record in records:
        assert 0 <= record.number <= HIGHEST
    again = _handoff.decode(_handoff.encode(records))
    for record, same in zip(records, again, strict=True):
        for name in ("key", "number", "kind", "identity"):
            assert getattr(record, name) == getattr(same, name)


atheris.Setup(sys.argv, decode)
atheris.Fuzz()
