"""The kind and identity of a descriptor, as in the manifest and in `noinherit.audit`."""

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
    """Return the kind and the identity of `fd`, a descriptor or a path in /proc."""
    status = os.stat(fd)  # noqa: PTH116 -- mostly a number, not a path
    return described(status.st_mode, status.st_dev, status.st_ino)


def described(mode: int, device: int, inode: int) -> tuple[str, str]:
    """Return the kind and the identity of what `os.stat` reports these facts of."""
    # An epoll, an eventfd and the like have no file type.
    kind = _KINDS.get(stat.S_IFMT(mode), "other")
    return kind, "%x:%x" % (device, inode)  # noqa: UP031 -- an f-string takes twice as long
