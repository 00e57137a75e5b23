"""How the Win32 functions of this package are declared, and the ways in which they fail.

`ctypes.WinDLL` objects of our own: prototypes set on those of `ctypes.windll` would be shared with
every other library in the process.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_int32, c_size_t, c_uint32, c_void_p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

assert sys.platform == "win32"

BOOL = c_int32
DWORD = c_uint32
HANDLE = c_void_p
SOCKET = c_size_t
_INVALID_SOCKET = c_size_t(-1).value


def false_and_last_error(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


def null_and_last_error(result: int | None, function: Any, arguments: tuple[Any, ...]) -> int:
    if not result:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


def nonzero_and_last_error(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if result:
        # WSAGetLastError is another name of GetLastError.
        raise ctypes.WinError(ctypes.get_last_error())
    return result


def invalid_and_last_error(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if result == _INVALID_SOCKET:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


def failed_and_last_error(result: int, function: Any, arguments: tuple[Any, ...]) -> int:
    if result == 0xFFFFFFFF:
        raise ctypes.WinError(ctypes.get_last_error())
    return result


def declare(
    dll: ctypes.WinDLL,
    name: str,
    restype: Any,
    errcheck: Callable[..., int] | None,
    **parameters: Any,
) -> Callable[..., Any]:
    """Return the function `name` of `dll`, with its prototype."""
    function = getattr(dll, name)
    function.restype = restype
    function.argtypes = list(parameters.values())
    if errcheck is not None:
        function.errcheck = errcheck
    return function  # type: ignore[no-any-return]  # a ctypes function pointer is Any
