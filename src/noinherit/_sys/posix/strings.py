"""C strings: the arguments and the environment of a child.

With ``env=None``, a child gets C's own environment, as with `os.system` and `subprocess`. It also
has what `os.putenv`, `os.unsetenv` or a C library changed. The child cannot start with C's array
itself: another thread that sets a variable moves and frees that. So noinherit copies it in one call
that holds the GIL, because Python holds the GIL while it changes the environment.

Without a GIL, nothing in Python guards C's array. There, a child gets a copy of `os.environ`, made
under the lock of its dict (docs/gotchas/posix.md, "The environment while a child starts").
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    Strings: TypeAlias = ctypes.Array[ctypes.c_char_p]

assert sys.platform != "win32"

from . import libc

# os.environ's backing dict, already encoded; replacing os.environ does not affect it.
variables: dict[bytes, bytes] = os.environb._data  # type: ignore[attr-defined]  # noqa: SLF001 -- public access iterates, and raises if another thread adds a variable


def arguments(args: Any, executable: Any, shell: bool) -> list[Any]:
    """Return the command as a list of words, with the shell's words in front if needed."""
    if not isinstance(args, (list, tuple)):
        if shell and not isinstance(args, (str, bytes)):
            raise TypeError("path-like args is not allowed when shell is true")
        args = [args]
    if shell:
        args = [executable or "/bin/sh", "-c", *args]
    return list(args)


def reject_nul(text: bytes) -> bytes:
    """Return `text`; raise `ValueError` if it contains a zero byte."""
    # C would truncate at the NUL and run something else.
    if 0 in text:  # faster than b"\0" in text
        raise ValueError("embedded null byte")
    return text


def c_strings(texts: Sequence[bytes]) -> Strings:
    """Return `texts` as a NULL-terminated C array, as for ``argv`` and ``envp``."""
    reject_nul(b"".join(texts))
    return _array(len(texts) + 1)(*texts)


@functools.lru_cache(maxsize=64)
def _array(length: int) -> type[Strings]:
    # ctypes drops an unused array type, and creating one takes longer than filling the array.
    return ctypes.c_char_p * length


def encoded_environment(
    env: Mapping[Any, Any] | None, added: Mapping[str, str]
) -> dict[bytes, bytes]:
    """Return the variables of `env`, or of this process, and those `added`."""
    if env is None:
        encoded = _own().by_name().copy()
    else:
        encoded = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    encoded.update({os.fsencode(name): os.fsencode(value) for name, value in added.items()})
    return encoded


def own_strings(added: Mapping[str, str]) -> list[bytes]:
    """Return this process's variables and those `added`, each as ``name=value``.

    The caller must not change the list.
    """
    own = _own()
    return _extended_texts(own, tuple(added.items())) if added else own.texts


def environment(env: Mapping[Any, Any] | None, added: Mapping[str, str]) -> Strings:
    """Return ``envp`` with `env`, or this process's variables, and with `added`."""
    if env is not None:
        encoded = encoded_environment(env, added)
        if any(b"=" in name for name in encoded):
            raise ValueError("illegal environment variable name")
        return c_strings(_joined(encoded))
    own = _own()
    return _extended(own, tuple(added.items())) if added else own.strings


def _joined(pairs: Mapping[bytes, bytes]) -> list[bytes]:
    return [name + b"=" + value for name, value in pairs.items()]


_Bytes = ctypes.POINTER(ctypes.c_char)


def _by_argz() -> bytes:
    """Return C's environment, each variable with a zero byte after it; glibc only."""
    assert libc.argz_create is not None
    if not libc.environ:  # a NULL pointer, as after clearenv(3)
        return b""
    argz, size = _Bytes(), ctypes.c_size_t()
    libc.argz_create(libc.environ, ctypes.byref(argz), ctypes.byref(size))
    try:
        return argz[: size.value]  # type: ignore[return-value]  # bytes: the items are c_char
    finally:
        libc.free(argz)


def _by_iterator() -> list[bytes]:
    """Return C's environment on any libc; takes longer."""
    try:
        # One C call: list() fetches each string, up to the NULL, which is None.
        return list(iter(iter(libc.environ).__next__, None))
    except ValueError:  # a NULL pointer
        return []


def _read() -> bytes | list[bytes] | dict[bytes, bytes]:
    """Return this process's variables as they are now, in a form that can be compared."""
    if not _HAS_GIL:
        return variables.copy()  # one C call under the dict's own lock
    return _by_iterator() if libc.argz_create is None else _by_argz()


class _Own:
    """A snapshot of this process's variables, with the C strings for it."""

    __slots__ = ("_by_name", "read", "strings", "texts")

    def __init__(self) -> None:
        self._by_name: dict[bytes, bytes] = {}
        self.read = read = _read()
        if isinstance(read, bytes):
            self.texts = read.split(b"\0")[:-1]
        else:
            self.texts = _joined(read) if isinstance(read, dict) else read
        self.strings = c_strings(self.texts)

    def by_name(self) -> dict[bytes, bytes]:
        """Return the variables as a dict, which the caller must not change."""
        if not self._by_name:
            pairs = (text.partition(b"=") for text in reversed(self.texts))  # the first one counts
            self._by_name = {name: value for name, separator, value in pairs if separator}
        return self._by_name


# Whether the GIL guards C's environment: PyPy's ctypes always releases it.
_HAS_GIL = (
    libc.KEEPS_GIL and libc.environ is not None and getattr(sys, "_is_gil_enabled", lambda: True)()
)
# The environment rarely changes between two spawns. Threads share the snapshot without a lock: each
# loads this variable once per spawn, and a new snapshot is complete before it is stored.
_latest = _Own()


def _own() -> _Own:
    """Return a snapshot of this process's variables as they are now."""
    global _latest  # noqa: PLW0603 -- see _latest
    own = _latest
    if own.read != _read():
        _latest = own = _Own()
    return own


def _kept_and_added(
    own: _Own, added: tuple[tuple[str, str], ...]
) -> tuple[list[bytes], list[bytes]]:
    more = {os.fsencode(name): os.fsencode(value) for name, value in added}
    kept = [text for text in own.texts if text.partition(b"=")[0] not in more]
    return kept, _joined(more)


@functools.lru_cache(maxsize=16)
def _extended_texts(own: _Own, added: tuple[tuple[str, str], ...]) -> list[bytes]:
    """Return the texts of `own` and `added`."""
    kept, texts = _kept_and_added(own, added)
    return kept + texts


# The same descriptors give the same manifest. lru_cache is thread-safe.
@functools.lru_cache(maxsize=16)
def _extended(own: _Own, added: tuple[tuple[str, str], ...]) -> Strings:
    """Return the strings of `own` and `added`, usually without encoding those of `own` again."""
    kept, texts = _kept_and_added(own, added)
    if len(kept) != len(own.texts):
        return c_strings([*kept, *texts])
    reject_nul(b"".join(texts))
    end = len(own.strings) - 1
    made = _array(end + len(texts) + 1)()
    ctypes.memmove(made, own.strings, ctypes.sizeof(own.strings))
    made[end:-1] = [*texts]
    made.owner = own.strings  # type: ignore[attr-defined]  # keeps the pointed-to strings alive
    return made
