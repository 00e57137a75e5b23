"""Starts a child that holds exactly what was listed."""

from __future__ import annotations

from collections.abc import Iterable

from . import _plan, _types
from ._entry import Key
from ._process import Process
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, Unpack, overload

    from ._options import Args, SpawnOptions


if TYPE_CHECKING:

    @overload  # encoding is a str
    def spawn_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        text: bool | None = ...,
        universal_newlines: bool | None = ...,
        encoding: str,
        errors: str | None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> Process[str]: ...
    @overload  # errors is a str
    def spawn_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        text: bool | None = ...,
        universal_newlines: bool | None = ...,
        encoding: str | None = ...,
        errors: str,
        **popen_options: Unpack[SpawnOptions],
    ) -> Process[str]: ...
    @overload  # universal_newlines is True
    def spawn_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        text: bool | None = ...,
        universal_newlines: Literal[True],
        encoding: str | None = ...,
        errors: str | None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> Process[str]: ...
    @overload  # text is True
    def spawn_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        text: Literal[True],
        universal_newlines: Literal[True] | None = ...,
        encoding: str | None = ...,
        errors: str | None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> Process[str]: ...
    @overload  # bytes
    def spawn_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        text: Literal[False] | None = ...,
        universal_newlines: Literal[False] | None = ...,
        encoding: None = ...,
        errors: None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> Process[bytes]: ...
    @overload  # any of them
    def spawn_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        text: bool | None = ...,
        universal_newlines: bool | None = ...,
        encoding: str | None = ...,
        errors: str | None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> Process[str] | Process[bytes]: ...


def spawn_with(
    args: _types.Args,
    *,
    fds: _plan.Fds = (),
    lifeline: bool = False,
    die_with_parent: bool = False,
    cgroup: _types.Any = None,
    listen_fds: Iterable[Key] = (),
    **popen_options: _types.Any,
) -> Process[_types.Any]:
    """Start `args` as a child that holds exactly the standard streams and `fds`.

    >>> reading, writing = os.pipe()
    >>> program = "import os; os.write(7, b'hello')"
    >>> with spawn_with([sys.executable, "-c", program], fds={7: writing}):
    ...     os.close(writing)
    >>> with open(reading, "rb") as pipe:
    ...     pipe.read()
    b'hello'

    :param args:
       The program and its arguments, as for `subprocess.Popen`. An item can be an `fd_arg`.
    :param fds:
       What the child receives. The values are descriptor numbers, files, sockets, channels, any
       objects with ``fileno()``, or on Windows a `Handle`. They stay the caller's: they are never
       closed, and their flags are never changed, not even briefly.

       - In a mapping, a key that is an `int` is the number in the child. A key that is a `str` is a
         name: noinherit chooses its number, from 3 up, and the child finds it through
         `inherited`.
       - In any other iterable, each descriptor keeps its number.
    :param lifeline:
       Whether the child receives one more descriptor, which `Process.wait_released` waits for.
    :param die_with_parent:
       Whether the system kills the child when this process ends: returns, crashes, is killed, calls
       exec. With ``process_group=0`` or ``start_new_session=True``, the whole process group is
       killed. On Windows, the child and all its descendants are. On POSIX the child receives one
       more descriptor, and escapes if it closes that. `Process.detach` undoes it.
    :param cgroup:
       The directory of a cgroup, version 2, that the child is born in (:manpage:`cgroups(7)`): a
       path, a descriptor number, or an object with ``fileno()``. With ``lifeline=True``,
       `Process.kill_descendants` kills every process in it and below it, whatever started it: so
       make one for this child. Linux only. Before glibc 2.39, or with an option that
       :manpage:`posix_spawn(3)` does not have, the call starts one extra Python interpreter first,
       and the child enters the cgroup just before it becomes the program.
    :param listen_fds:
       Keys of `fds` that are also announced by systemd's socket activation
       (:manpage:`sd_listen_fds(3)`). They receive the numbers from 3 up, in this order, and the
       child has ``LISTEN_FDS``, ``LISTEN_FDNAMES`` and ``LISTEN_PID``. POSIX only. Starts one extra
       Python interpreter first; the call waits for it (some 10 ms).
    :param popen_options:
       The options of `subprocess.Popen`. All of them work with any `fds`, except
       ``close_fds=False``, which contradicts the promise. ``pass_fds`` adds to `fds`. With
       ``user``, ``group``, ``extra_groups`` or ``umask``, a number that is taken in this process
       costs the start of one extra Python interpreter.

       Two more are noinherit's own, both on POSIX. They use :manpage:`posix_spawn(3)` where they
       can; with one of the options above, or where libc cannot close the rest, they cost the start
       of one extra Python interpreter.

       - ``reset_signals=True``: the child starts with the default action for every signal and with
         none blocked, whatever this thread blocks and this process ignores. Otherwise it inherits
         both, as with `subprocess.Popen` (:manpage:`execve(2)`). On Windows, a process inherits
         neither, and the option changes nothing.
       - ``cwd`` may be an open directory: a descriptor number, or an object with ``fileno()``. The
         child starts in that directory, even if it was renamed or removed. On Windows it is
         refused.
    :returns: a `Process`, which is a `subprocess.Popen`
    :raises RequestError:
       for a request that cannot be carried out; nothing has been created by then
    :raises OSError: if the child cannot be started, as `subprocess.Popen` does

    Availability: Linux, macOS, BSD, Windows. On Windows, numbers go up to 254, sockets reach Python
    children only, and the options of POSIX are refused.
    """
    if not popen_options.get("close_fds", True):
        raise UnsupportedOptionError("close_fds", "False", "spawn_with closes everything else")
    return Process(
        args,
        fds=fds,
        lifeline=lifeline,
        die_with_parent=die_with_parent,
        cgroup=cgroup,
        listen_fds=listen_fds,
        **popen_options,
    )
