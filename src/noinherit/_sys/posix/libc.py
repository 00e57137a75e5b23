"""Declarations only: every libc prototype, constant and structure that noinherit uses.

The prototypes are from the POSIX Programmer's Manual; the ``_np`` ones are from ``<spawn.h>`` of
glibc, FreeBSD and Apple. A function is ``None`` if the libc lacks it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from ctypes import POINTER, c_char_p, c_int, c_short, c_uint, c_uint64, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

assert sys.platform != "win32"

# Calls that only write to memory keep the GIL. Releasing it for each of dozens of tiny calls would
# let every busy thread run in between. Calls that can block release it.
# PyPy has no PyDLL; its CDLL always releases the GIL.
KEEPS_GIL = hasattr(ctypes, "PyDLL")
_memory = getattr(ctypes, "PyDLL", ctypes.CDLL)(None)
_blocking = ctypes.CDLL(None, use_errno=True)

# Storage for a posix_spawn_file_actions_t, a posix_spawnattr_t, a sigset_t or a struct sigaction.
# They have at most 336 bytes in glibc and musl. In the BSDs and macOS, the first two are pointers.
Opaque = c_uint64 * 64


def _returned_errno(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    # The posix_spawn family returns its errno instead of setting it.
    if result:
        raise OSError(result, os.strerror(result))
    return result


def _minus_one_and_errno(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _optional(
    dll: ctypes.CDLL, name: str, errcheck: Callable[..., int] | None, **parameters: Any
) -> Callable[..., int] | None:
    function = getattr(dll, name, None)
    if function is not None:
        function.restype = c_int
        function.argtypes = list(parameters.values())
        if errcheck is not None:
            function.errcheck = errcheck
    return function


def _declare(
    dll: ctypes.CDLL, name: str, errcheck: Callable[..., int] | None, **parameters: Any
) -> Callable[..., int]:
    function = _optional(dll, name, errcheck, **parameters)
    if function is None:
        raise ImportError(f"this libc has no {name}")
    return function


posix_spawn = _declare(
    _blocking,
    "posix_spawn",
    None,  # no errcheck: its OSError could be confused with one from a signal handler
    pid=POINTER(c_int),
    path=c_char_p,
    file_actions=c_void_p,
    attrp=c_void_p,
    argv=c_void_p,
    envp=c_void_p,
)
posix_spawn_file_actions_init = _declare(
    _memory,
    "posix_spawn_file_actions_init",
    _returned_errno,
    file_actions=c_void_p,
)
posix_spawn_file_actions_destroy = _declare(
    _memory,
    "posix_spawn_file_actions_destroy",
    _returned_errno,
    file_actions=c_void_p,
)
posix_spawn_file_actions_adddup2 = _declare(
    _memory,
    "posix_spawn_file_actions_adddup2",
    _returned_errno,
    file_actions=c_void_p,
    fildes=c_int,
    newfildes=c_int,
)
posix_spawn_file_actions_addclose = _declare(
    _memory,
    "posix_spawn_file_actions_addclose",
    _returned_errno,
    file_actions=c_void_p,
    fildes=c_int,
)
posix_spawn_file_actions_addclosefrom_np = _optional(
    _memory,
    "posix_spawn_file_actions_addclosefrom_np",
    _returned_errno,
    file_actions=c_void_p,
    lowfildes=c_int,
)
posix_spawn_file_actions_addinherit_np = _optional(
    _memory,
    "posix_spawn_file_actions_addinherit_np",
    _returned_errno,
    file_actions=c_void_p,
    fildes=c_int,
)
posix_spawn_file_actions_addchdir_np = _optional(
    _memory,
    "posix_spawn_file_actions_addchdir_np",
    _returned_errno,
    file_actions=c_void_p,
    path=c_char_p,
)
posix_spawn_file_actions_addfchdir_np = _optional(
    _memory,
    "posix_spawn_file_actions_addfchdir_np",
    _returned_errno,
    file_actions=c_void_p,
    fildes=c_int,
)
posix_spawnattr_init = _declare(
    _memory,
    "posix_spawnattr_init",
    _returned_errno,
    attr=c_void_p,
)
posix_spawnattr_destroy = _declare(
    _memory,
    "posix_spawnattr_destroy",
    _returned_errno,
    attr=c_void_p,
)
posix_spawnattr_setflags = _declare(
    _memory,
    "posix_spawnattr_setflags",
    _returned_errno,
    attr=c_void_p,
    flags=c_short,
)
posix_spawnattr_setpgroup = _declare(
    _memory,
    "posix_spawnattr_setpgroup",
    _returned_errno,
    attr=c_void_p,
    pgroup=c_int,
)
posix_spawnattr_setcgroup_np = _optional(
    _memory,
    "posix_spawnattr_setcgroup_np",
    _returned_errno,
    attr=c_void_p,
    cgroup=c_int,
)
posix_spawnattr_setsigdefault = _declare(
    _memory,
    "posix_spawnattr_setsigdefault",
    _returned_errno,
    attr=c_void_p,
    sigdefault=c_void_p,
)
posix_spawnattr_setsigmask = _declare(
    _memory,
    "posix_spawnattr_setsigmask",
    _returned_errno,
    attr=c_void_p,
    sigmask=c_void_p,
)
sigemptyset = _declare(
    _memory,
    "sigemptyset",
    None,
    set=c_void_p,
)
sigaddset = _declare(
    _memory,
    "sigaddset",
    None,
    set=c_void_p,
    signum=c_int,
)
sigaction = _declare(
    _memory,
    "sigaction",
    _minus_one_and_errno,
    signum=c_int,
    act=c_void_p,
    oldact=c_void_p,
)
# environ(7). On macOS, <crt_externs.h> has its address.
environ: Any = None
with contextlib.suppress(ValueError):
    environ = POINTER(c_char_p).in_dll(_memory, "environ")
if hasattr(_memory, "_NSGetEnviron"):
    _environ = _memory["_NSGetEnviron"]
    _environ.restype = POINTER(POINTER(c_char_p))
    environ = _environ().contents
# <argz.h>, GNU
argz_create = _optional(
    _memory,
    "argz_create",
    _returned_errno,
    argv=c_void_p,
    argz=c_void_p,
    argz_len=c_void_p,
)
free = _memory.free
free.restype = None
free.argtypes = [c_void_p]


def optional(name: str, **parameters: Any) -> Callable[..., int] | None:
    """Return a function of this libc that returns -1 and sets errno; None if it is missing."""
    return _optional(_blocking, name, _minus_one_and_errno, **parameters)


close_range = _optional(
    _blocking,
    "close_range",
    _minus_one_and_errno,
    first=c_uint,
    last=c_uint,
    flags=c_int,
)
