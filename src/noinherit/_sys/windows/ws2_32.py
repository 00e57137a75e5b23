"""The functions of ws2_32.dll that noinherit calls; declares only.

Prototypes are those of Microsoft Learn, under the function's name.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import POINTER, c_int32, c_uint32

from .structs import WSAPROTOCOL_INFOW

assert sys.platform == "win32"

from .declare import (
    DWORD,
    SOCKET,
    declare,
    invalid_and_last_error,
    nonzero_and_last_error,
)

_ws2_32 = ctypes.WinDLL("ws2_32", use_last_error=True)

WSADuplicateSocketW = declare(
    _ws2_32,
    "WSADuplicateSocketW",
    c_int32,
    nonzero_and_last_error,
    s=SOCKET,
    dwProcessId=DWORD,
    lpProtocolInfo=POINTER(WSAPROTOCOL_INFOW),
)
WSASocketW = declare(
    _ws2_32,
    "WSASocketW",
    SOCKET,
    invalid_and_last_error,
    af=c_int32,
    type=c_int32,
    protocol=c_int32,
    lpProtocolInfo=POINTER(WSAPROTOCOL_INFOW),
    g=c_uint32,
    dwFlags=DWORD,
)
closesocket = declare(
    _ws2_32,
    "closesocket",
    c_int32,
    nonzero_and_last_error,
    s=SOCKET,
)
