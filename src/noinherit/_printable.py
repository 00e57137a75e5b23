"""Text that is safe to print: names of files, sockets and programs are chosen by others."""

from __future__ import annotations


def printable(text: str, encoding: str | None = None) -> str:
    r"""Return `text` without anything that a terminal obeys or that begins another line.

    Each such character, and each that `encoding` does not have, is shown as its escape sequence,
    such as ``\n`` or ``\x1b``. A text that is safe already is returned unchanged.
    """
    if not text.isprintable():
        text = "".join(each if each.isprintable() else _escaped(each) for each in text)
    if encoding is not None:
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
