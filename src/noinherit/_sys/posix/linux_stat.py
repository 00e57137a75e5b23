"""Linux: what kind of file a descriptor is of, without a question to the file's server.

``fstat`` asks the server of a FUSE or network file system and waits for its answer, in a way that
not even SIGKILL interrupts. :manpage:`statx(2)` with ``AT_STATX_DONT_SYNC`` answers from what the
kernel knows already. Type, device and inode do not change while a file is open.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from ctypes import c_char_p, c_int, c_uint, c_uint16, c_uint32, c_uint64, c_void_p

assert sys.platform == "linux"

from ..._identity import described, kind_and_identity
from . import libc

_AT_FDCWD = -100  # <linux/fcntl.h>, as the next two
_AT_EMPTY_PATH = 0x1000
_AT_STATX_DONT_SYNC = 0x4000
_STATX_TYPE_AND_INO = 0x101  # <linux/stat.h>
# An old kernel, a sandbox. For ENOSYS, glibc says EINVAL: it knows no other call with these flags.
_UNUSED = (errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.EPERM)


class struct_statx(ctypes.Structure):  # noqa: N801 -- C's name
    """<linux/stat.h>; times, sizes and the newer fields are not used here."""

    _fields_ = (
        ("stx_mask", c_uint32),
        ("stx_blksize", c_uint32),
        ("stx_attributes", c_uint64),
        ("stx_nlink", c_uint32),
        ("stx_uid", c_uint32),
        ("stx_gid", c_uint32),
        ("stx_mode", c_uint16),
        ("__spare0", c_uint16),
        ("stx_ino", c_uint64),
        ("__unused0", c_uint64 * 11),
        ("stx_rdev_major", c_uint32),
        ("stx_rdev_minor", c_uint32),
        ("stx_dev_major", c_uint32),
        ("stx_dev_minor", c_uint32),
        ("__unused1", c_uint64 * 14),
    )


_statx = libc.optional(
    "statx",
    dirfd=c_int,
    pathname=c_char_p,
    flags=c_int,
    mask=c_uint,
    statxbuf=c_void_p,
)


def look(fd: int | str) -> tuple[str, str]:
    """Return the kind and the identity of `fd`, a descriptor or a path in /proc."""
    if _statx is not None:
        found = struct_statx()
        number, path = (fd, b"") if isinstance(fd, int) else (_AT_FDCWD, os.fsencode(fd))
        flags = _AT_STATX_DONT_SYNC | (0 if path else _AT_EMPTY_PATH)
        try:
            _statx(number, path, flags, _STATX_TYPE_AND_INO, ctypes.byref(found))
        except OSError as error:
            if error.errno not in _UNUSED:
                raise
        else:
            device = os.makedev(found.stx_dev_major, found.stx_dev_minor)
            return described(found.stx_mode, device, found.stx_ino)
    return kind_and_identity(fd)
