"""C strings: the arguments and the environment of a child."""

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
        encoded = variables.copy()
    else:
        encoded = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    encoded.update({os.fsencode(name): os.fsencode(value) for name, value in added.items()})
    return encoded


def environment(env: Mapping[Any, Any] | None, added: Mapping[str, str]) -> Strings:
    """Return ``envp`` with `env`, or this process's variables, and with `added`."""
    if env is not None:
        encoded = encoded_environment(env, added)
        if any(b"=" in name for name in encoded):
            raise ValueError("illegal environment variable name")
        return c_strings(_joined(encoded))
    global _latest  # noqa: PLW0603 -- see _latest
    own = _latest
    if own.variables != variables:
        _latest = own = _Own()
    return _extended(own, tuple(added.items())) if added else own.strings


def _joined(pairs: Mapping[bytes, bytes]) -> list[bytes]:
    return [name + b"=" + value for name, value in pairs.items()]


class _Own:
    """A snapshot of this process's variables, with the C strings for it."""

    __slots__ = ("strings", "variables")

    def __init__(self) -> None:
        # Not libc's own array: os.environ[...] = in another thread moves and frees that.
        # dict.copy() is one C call, so the GIL or the dict's own lock makes it atomic.
        self.variables = variables.copy()
        self.strings = c_strings(_joined(self.variables))


# The environment rarely changes between two spawns. Threads share the snapshot without a lock: each
# loads this variable once per spawn, and a new snapshot is complete before it is stored.
_latest = _Own()


# The same descriptors give the same manifest. lru_cache is thread-safe.
@functools.lru_cache(maxsize=16)
def _extended(own: _Own, added: tuple[tuple[str, str], ...]) -> Strings:
    """Return the strings of `own` and `added`, usually without encoding those of `own` again."""
    more = {os.fsencode(name): os.fsencode(value) for name, value in added}
    if not own.variables.keys().isdisjoint(more):
        return c_strings(_joined({**own.variables, **more}))
    texts = _joined(more)
    reject_nul(b"".join(texts))
    end = len(own.strings) - 1
    made = _array(end + len(texts) + 1)()
    ctypes.memmove(made, own.strings, ctypes.sizeof(own.strings))
    made[end:-1] = [*texts]
    made.owner = own.strings  # type: ignore[attr-defined]  # keeps the pointed-to strings alive
    return made
