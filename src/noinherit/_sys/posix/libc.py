"""Every libc prototype, constant and structure that noinherit uses; declares only.

Prototypes are those of the POSIX Programmer's Manual and, for the ``_np`` ones, of glibc's,
FreeBSD's and Apple's ``<spawn.h>``. A function that a libc may lack is ``None`` there.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import POINTER, c_char_p, c_int, c_short, c_uint, c_uint64, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

assert sys.platform != "win32"

# Building lists in memory keeps the GIL: giving it up for each of dozens of tiny calls would let
# every busy thread of the process in between. What can block gives it up.
# PyPy has no PyDLL; its CDLL gives the GIL up each time.
_memory = getattr(ctypes, "PyDLL", ctypes.CDLL)(None)
_blocking = ctypes.CDLL(None, use_errno=True)

# posix_spawn_file_actions_t, posix_spawnattr_t and sigset_t are opaque: 80, 336 and 128 bytes in
# glibc and musl, a pointer or less in the BSDs and macOS. All fit in this, suitably aligned.
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
    None,  # an exception could not be told from one that a signal's handler raises
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
posix_spawnattr_setsigdefault = _declare(
    _memory,
    "posix_spawnattr_setsigdefault",
    _returned_errno,
    attr=c_void_p,
    sigdefault=c_void_p,
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
# The handler that was there before; None is SIG_DFL.
signal = _memory.signal
signal.restype = c_void_p
signal.argtypes = [c_int, c_void_p]
close_range = _optional(
    _blocking,
    "close_range",
    _minus_one_and_errno,
    first=c_uint,
    last=c_uint,
    flags=c_int,
)
