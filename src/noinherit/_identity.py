"""What a descriptor is and which one, as the manifest and `noinherit.audit` have it."""

from __future__ import annotations

import os
import stat

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFSOCK: "socket",
    stat.S_IFIFO: "pipe",
    stat.S_IFDIR: "directory",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def kind_and_identity(fd: int | str) -> tuple[str, str]:
    """Return what `fd`, open here or a path of one in /proc, is, and which one."""
    status = os.stat(fd)  # noqa: PTH116 -- a number is no path
    # Epoll, eventfd and their like have no file type at all.
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), "other")
    return kind, "%x:%x" % (status.st_dev, status.st_ino)  # noqa: UP031 -- an f-string takes twice as long
