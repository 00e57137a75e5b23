"""The options that start a child: for type checkers, editors and `typing.get_type_hints`.

The options that decide between text and bytes (`text`, `universal_newlines`, `encoding`, `errors`)
stand in the overloads of each function: the result's type depends on them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, Literal, TypeAlias, TypedDict

from ._entry import HasFileno, Key
from ._plan import FdArg

StrOrBytesPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Word: TypeAlias = StrOrBytesPath | FdArg
Args: TypeAlias = StrOrBytesPath | Sequence[Word]
# Names are str or bytes. With a union of mappings mypy refuses {**os.environ, "N": fd_arg(6)}.
Env: TypeAlias = Mapping[Any, Word]
# A path, or the descriptor of an open directory.
Directory: TypeAlias = StrOrBytesPath | int | HasFileno
Stream: TypeAlias = int | IO[Any] | HasFileno | None


class CommonOptions(TypedDict, total=False):
    """The options that `Process`, `spawn_with`, `run_with` and `aio.spawn_with` have in common."""

    bufsize: int
    executable: StrOrBytesPath | None
    stdin: Stream
    stdout: Stream
    stderr: Stream
    preexec_fn: Callable[[], object] | None
    shell: bool
    cwd: Directory | None
    env: Env | None
    startupinfo: Any
    creationflags: int
    restore_signals: bool
    reset_signals: bool
    start_new_session: bool
    pass_fds: Iterable[int]
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int
    pipesize: int
    process_group: int | None
    listen_fds: Iterable[Key]
    lifeline: bool
    die_with_parent: bool
    cgroup: Directory | None


class ProcessOptions(CommonOptions, total=False):
    """The options of `Process`."""

    close_fds: bool


class SpawnOptions(CommonOptions, total=False):
    """The options of `spawn_with`, `run_with` and `aio.spawn_with`."""

    close_fds: Literal[True]  # False is refused
