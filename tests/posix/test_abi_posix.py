"""What libc.py declares is what the C compiler sees."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs posix_spawn", allow_module_level=True)
assert sys.platform != "win32"

import ctypes
import subprocess
from pathlib import Path

from capabilities import needs_program
from noinherit._sys.posix import libc, system
from noinherit._sys.posix.actions import FileActions

PROGRAM = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdalign.h>
#include <stdio.h>
#define SIZE(type) printf("size %zu %zu\n", sizeof(type), alignof(type))
#define VALUE(name) printf(#name " %ld\n", (long)(name))
#define ROOM(parameter, wanted) _Static_assert(sizeof(parameter) == sizeof(wanted), "width")
int main(void) {
    SIZE(posix_spawn_file_actions_t);
    SIZE(posix_spawnattr_t);
    SIZE(sigset_t);
    SIZE(struct sigaction);
    VALUE(POSIX_SPAWN_SETPGROUP);
    VALUE(POSIX_SPAWN_SETSIGDEF);
    VALUE(POSIX_SPAWN_SETSIGMASK);
    #ifdef POSIX_SPAWN_SETSID
    VALUE(POSIX_SPAWN_SETSID);
    #endif
    #ifdef POSIX_SPAWN_SETCGROUP
    VALUE(POSIX_SPAWN_SETCGROUP);
    #endif
    #ifdef POSIX_SPAWN_CLOEXEC_DEFAULT
    VALUE(POSIX_SPAWN_CLOEXEC_DEFAULT);
    #endif
    #ifdef CLOSE_RANGE_CLOEXEC
    VALUE(CLOSE_RANGE_CLOEXEC);
    #endif
    ROOM(pid_t, int);
    return 0;
}
"""


@needs_program("cc")
def test_sizes_and_constants(tmp_path: Path) -> None:
    source = tmp_path / "abi.c"
    # close_range's flag is in a header that not every system has.
    header = (
        "#include <linux/close_range.h>\n"
        if Path("/usr/include/linux/close_range.h").exists()
        else ""
    )
    source.write_text(header + PROGRAM)
    subprocess.run(["cc", "-o", tmp_path / "abi", source], check=True)
    printed = subprocess.run([tmp_path / "abi"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in printed.splitlines()]
    sizes = [
        (int(size), int(alignment)) for name, size, alignment in (r for r in rows if r[0] == "size")
    ]
    assert len(sizes) == 4
    for size, alignment in sizes:
        assert size <= ctypes.sizeof(libc.Opaque)
        assert alignment <= ctypes.alignment(libc.Opaque)
    values = {row[0]: int(row[1]) for row in rows if row[0] != "size"}
    assert len(values) >= 2
    assert values == {name: getattr(system, name) for name in values}


def test_a_failure_carries_its_number() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        FileActions().close(-1)
    if libc.close_range is not None:
        with pytest.raises(OSError, match="Invalid argument"):
            libc.close_range(2, 1, 0)


def test_a_libc_without_what_every_libc_has_is_refused() -> None:
    with pytest.raises(ImportError, match="no such_function"):
        libc._declare(libc._memory, "such_function", None)
    assert libc._optional(libc._memory, "such_function", None) is None
