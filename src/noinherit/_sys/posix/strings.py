"""Strings as C has them: arguments and environment."""

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

# What os.environ keeps, encoded already. A test's stand-in for os.environ does not come between, as
# it does not for subprocess.
variables: dict[bytes, bytes] = os.environb._data  # type: ignore[attr-defined]  # noqa: SLF001 -- the public ways iterate over it, and fail if it grows


def arguments(args: Any, executable: Any, shell: bool) -> list[Any]:
    """Return the words of the command, the shell's among them."""
    if not isinstance(args, (list, tuple)):
        if shell and not isinstance(args, (str, bytes)):
            raise TypeError("path-like args is not allowed when shell is true")
        args = [args]
    if shell:
        args = [executable or "/bin/sh", "-c", *args]
    return list(args)


def reject_nul(text: bytes) -> bytes:
    """Return `text`; raise `ValueError` for one with a zero byte in it."""
    # C would end it there, and run something else than what was asked for.
    if 0 in text:  # a number is found at once; looking for b"\0" first makes an exception of it
        raise ValueError("embedded null byte")
    return text


def c_strings(texts: Sequence[bytes]) -> Strings:
    """Return `texts` as C's ``argv`` and ``envp`` have them."""
    reject_nul(b"".join(texts))
    return _array(len(texts) + 1)(*texts)


@functools.lru_cache(maxsize=64)
def _array(length: int) -> type[Strings]:
    # ctypes forgets a type that nobody uses, and making one takes longer than filling it.
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
    """Return ``envp`` of `env`, or of this process's variables, and what is added to them."""
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
    """Owner of C's strings for this process's variables, as they were when it was made."""

    __slots__ = ("strings", "variables")

    def __init__(self) -> None:
        # Not libc's own array: another thread's os.environ[...] = moves and frees it meanwhile.
        # dict.copy() is one C call: with the GIL, or the dict's own lock, nothing gets in between.
        self.variables = variables.copy()
        self.strings = c_strings(_joined(self.variables))


# The environment is hardly ever changed between two spawns. Threads share it without a lock: each
# loads it once and works with what it has then, and a new one is complete before it is stored.
_latest = _Own()


# The same descriptors make the same manifest. lru_cache may be used by many threads at once.
@functools.lru_cache(maxsize=16)
def _extended(own: _Own, added: tuple[tuple[str, str], ...]) -> Strings:
    """Return the strings of `own` and `added`, mostly without converting each of `own` again."""
    more = {os.fsencode(name): os.fsencode(value) for name, value in added}
    if not own.variables.keys().isdisjoint(more):
        return c_strings(_joined({**own.variables, **more}))
    texts = _joined(more)
    reject_nul(b"".join(texts))
    end = len(own.strings) - 1
    made = _array(end + len(texts) + 1)()
    ctypes.memmove(made, own.strings, ctypes.sizeof(own.strings))
    made[end:-1] = [*texts]
    made.owner = own.strings  # type: ignore[attr-defined]  # what the copied pointers point to lives as long
    return made
