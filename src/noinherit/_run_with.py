"""`subprocess.run` over `spawn_with`."""

from __future__ import annotations

import subprocess

from . import _plan, _sys, _types
from ._entry import check_seconds
from ._spawn_with import spawn_with
from ._sys import errors
from .exceptions import UnsupportedOptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, Unpack, overload

    from _typeshed import ReadableBuffer

    from ._options import Args, SpawnOptions
    from ._process import Process


if TYPE_CHECKING:

    @overload  # encoding is a str
    def run_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        input: str | None = ...,
        capture_output: bool = ...,
        timeout: float | None = ...,
        drain: float | None = ...,
        check: bool = ...,
        text: bool | None = ...,
        universal_newlines: bool | None = ...,
        encoding: str,
        errors: str | None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> subprocess.CompletedProcess[str]: ...
    @overload  # errors is a str
    def run_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        input: str | None = ...,
        capture_output: bool = ...,
        timeout: float | None = ...,
        drain: float | None = ...,
        check: bool = ...,
        text: bool | None = ...,
        universal_newlines: bool | None = ...,
        encoding: str | None = ...,
        errors: str,
        **popen_options: Unpack[SpawnOptions],
    ) -> subprocess.CompletedProcess[str]: ...
    @overload  # universal_newlines is True
    def run_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        input: str | None = ...,
        capture_output: bool = ...,
        timeout: float | None = ...,
        drain: float | None = ...,
        check: bool = ...,
        text: bool | None = ...,
        universal_newlines: Literal[True],
        encoding: str | None = ...,
        errors: str | None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> subprocess.CompletedProcess[str]: ...
    @overload  # text is True
    def run_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        input: str | None = ...,
        capture_output: bool = ...,
        timeout: float | None = ...,
        drain: float | None = ...,
        check: bool = ...,
        text: Literal[True],
        universal_newlines: Literal[True] | None = ...,
        encoding: str | None = ...,
        errors: str | None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> subprocess.CompletedProcess[str]: ...
    @overload  # bytes
    def run_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        input: ReadableBuffer | None = ...,
        capture_output: bool = ...,
        timeout: float | None = ...,
        drain: float | None = ...,
        check: bool = ...,
        text: Literal[False] | None = ...,
        universal_newlines: Literal[False] | None = ...,
        encoding: None = ...,
        errors: None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> subprocess.CompletedProcess[bytes]: ...
    @overload  # any of them
    def run_with(
        args: Args,
        *,
        fds: _plan.Fds = ...,
        input: ReadableBuffer | str | None = ...,
        capture_output: bool = ...,
        timeout: float | None = ...,
        drain: float | None = ...,
        check: bool = ...,
        text: bool | None = ...,
        universal_newlines: bool | None = ...,
        encoding: str | None = ...,
        errors: str | None = ...,
        **popen_options: Unpack[SpawnOptions],
    ) -> subprocess.CompletedProcess[str] | subprocess.CompletedProcess[bytes]: ...


def run_with(
    args: _types.Args,
    *,
    fds: _plan.Fds = (),
    input: _types.Any = None,  # noqa: A002 -- subprocess.run's name
    capture_output: bool = False,
    timeout: float | None = None,
    drain: float | None = None,
    check: bool = False,
    **popen_options: _types.Any,
) -> subprocess.CompletedProcess[_types.Any]:
    r"""Run `args` as `spawn_with` does, and wait for it.

    >>> args = [sys.executable, "-c", "import sys; print(sys.stdin.read().upper())"]
    >>> run_with(args, input="hello", capture_output=True, text=True).stdout
    'HELLO\n'

    :param args: as for `spawn_with`
    :param fds: as for `spawn_with`
    :param input: what the child reads from its standard input, as for `subprocess.run`
    :param capture_output: whether the result has the child's standard output and standard error
    :param timeout: seconds; then the child is killed
    :param drain:
       seconds to go on reading after the child has ended, if a descendant holds its output open; as
       for `Process.communicate`
    :param check: whether an exit status other than 0 raises
    :param popen_options:
       as for `spawn_with`. With ``lifeline=True``, a timeout or an exception ends
       the descendants as well, as `Process.kill_descendants` does; if some cannot be ended, a note
       in the exception says so.
    :returns: a `subprocess.CompletedProcess`
    :raises subprocess.TimeoutExpired: after `timeout` seconds
    :raises subprocess.CalledProcessError: for an exit status other than 0, with ``check=True``
    :raises RequestError: as `spawn_with` does
    :raises OSError: if the child cannot be started

    Availability: as `spawn_with`.
    """
    check_seconds("drain", drain)
    wanted = {"stdin": "input"} if input is not None else {}
    if capture_output:
        wanted.update(stdout="capture_output", stderr="capture_output")
    for stream, option in wanted.items():
        if popen_options.get(stream) not in (None, subprocess.PIPE):
            raise UnsupportedOptionError(
                option, "...", f"{stream} and {option} may not both be used"
            )
        popen_options[stream] = subprocess.PIPE
    with spawn_with(args, fds=fds, **popen_options) as process:
        try:
            stdout, stderr = process.communicate(input, timeout, drain=drain)
        except BaseException as error:  # KeyboardInterrupt, too: the child must not live on
            ended = _end(process, error, descendants=bool(popen_options.get("lifeline")))
            if isinstance(error, subprocess.TimeoutExpired):
                error.timeout = timeout or 0.0  # not what was left of it for the last step
                if ended and _sys.backend.OUTPUT_AFTER_KILL:
                    error.stdout, error.stderr = process.communicate(drain=drain)
                else:  # a grandchild may hold the pipes for ever, and what was read is known
                    process.wait()
            raise
    status = process.returncode
    if check and status:
        raise subprocess.CalledProcessError(status, process.args, stdout, stderr)
    return subprocess.CompletedProcess(process.args, status, stdout, stderr)


def _end(process: Process[_types.Any], error: BaseException, *, descendants: bool) -> bool:
    """Kill the child; with `descendants`, these as well. Add a note to `error` if some are left."""
    if not descendants:
        process.kill()
        return True
    try:
        process.kill_descendants()
    except OSError as failure:
        if errors.raised_by_handler(failure):
            raise
        error.add_note(f"descendants of the child are left: {failure}")
        return False
    return True
