"""Type checkers must refuse every line that has an ignore; it is never run.

``tox -e type`` checks it, strictly: mypy and pyright report each ignore that is not needed.
"""

from __future__ import annotations

from subprocess import PIPE

from noinherit import Process, aio, fd_arg, run_with, spawn_with


def a_misspelt_option(cmd: list[str]) -> None:
    spawn_with(cmd, lifelin=True)  # type: ignore[call-overload]  # must fail
    spawn_with(cmd, fds={3: 4}, passfds=[3])  # type: ignore[call-overload]  # must fail
    run_with(cmd, capture=True)  # type: ignore[call-overload]  # must fail
    Process(cmd, lifelin=True)  # type: ignore[call-overload]  # must fail


async def a_misspelt_option_for_asyncio(cmd: list[str]) -> None:
    await aio.spawn_with(cmd, lifelin=True)  # type: ignore[call-arg]  # must fail


def a_value_of_another_type(cmd: list[str]) -> None:
    spawn_with(cmd, listen_fds=7)  # type: ignore[call-overload]  # must fail
    spawn_with(cmd, pass_fds=7)  # type: ignore[call-overload]  # must fail
    spawn_with(cmd, lifeline="yes")  # type: ignore[call-overload]  # must fail
    spawn_with(cmd, umask="022")  # type: ignore[call-overload]  # must fail
    spawn_with(cmd, env={"A": 1})  # type: ignore[dict-item]  # must fail
    spawn_with([*cmd, 1])  # type: ignore[list-item]  # must fail
    spawn_with(cmd, fds=7)  # type: ignore[call-overload]  # must fail
    Process(cmd, umask="022")  # type: ignore[call-overload]  # must fail
    fd_arg(1.5)  # type: ignore[arg-type]  # must fail


def an_option_that_is_always_refused(cmd: list[str]) -> None:
    spawn_with(cmd, close_fds=False)  # type: ignore[call-overload]  # must fail
    run_with(cmd, close_fds=False)  # type: ignore[call-overload]  # must fail


async def text_for_asyncio(cmd: list[str]) -> None:
    await aio.spawn_with(cmd, text=True)  # type: ignore[arg-type]  # must fail
    await aio.spawn_with(cmd, encoding="utf-8")  # type: ignore[arg-type]  # must fail
    await aio.spawn_with(cmd, stdout=PIPE, universal_newlines=True)  # type: ignore[arg-type]  # must fail


def the_wrong_result(cmd: list[str], text: bool) -> None:
    a: Process[str] = spawn_with(cmd)  # type: ignore[assignment]  # must fail
    b: Process[bytes] = spawn_with(cmd, errors="replace")  # type: ignore[assignment]  # must fail
    c: Process[str] = spawn_with(cmd, text=text)  # type: ignore[assignment]  # must fail
    print(a, b, c)
