"""`Process.communicate` that does not wait for descendants of an ended child."""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import subprocess
import time

from . import _sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._sys.api import Exchange

    Output = tuple[bytes | str | None, bytes | str | None]


def start(process: subprocess.Popen[Any], data: Any) -> Exchange:
    """Return an exchange that sends `data`, which is None, bytes, or the text of a text mode."""
    stdin: Any = process.stdin
    if stdin is None or not data:
        data = b""
    elif process.text_mode:  # type: ignore[attr-defined]  # not in typeshed
        data = data.replace("\n", os.linesep).encode(stdin.encoding, stdin.errors)
    return _sys.output.Exchange(process, memoryview(data).cast("B"))


def run(
    process: subprocess.Popen[Any], exchange: Exchange, timeout: float | None, drain: float | None
) -> Output:
    """Return the output; raise `subprocess.TimeoutExpired` after `timeout` seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    if not exchange.run(timeout, math.inf if drain is None else drain):
        read = [bytes(exchange.output.get(name, b"")) or None for name in ("stdout", "stderr")]
        raise subprocess.TimeoutExpired(process.args, timeout or 0.0, *read)
    process.wait(None if deadline is None else max(deadline - time.monotonic(), 0))
    stdout, stderr = (_text(process, exchange, name) for name in ("stdout", "stderr"))
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):  # a child need not have read what it was sent
                stream.close()
    return stdout, stderr


def _text(process: subprocess.Popen[Any], exchange: Exchange, name: str) -> bytes | str | None:
    """Return the output of one stream, decoded in text mode."""
    if name not in exchange.output:
        return None
    output = bytes(exchange.output[name])
    if not process.text_mode:  # type: ignore[attr-defined]  # not in typeshed
        return output
    stream = getattr(process, name)
    # If the stream was given up, its last letter may be incomplete: it is left out.
    decoder = codecs.getincrementaldecoder(stream.encoding)(stream.errors)
    text: str = decoder.decode(output, final=name not in exchange.cut)
    return text.replace("\r\n", "\n").replace("\r", "\n")
