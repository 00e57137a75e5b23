"""The environment that a child gets: C's own, or a copy of ``os.environ``, in one piece."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import noinherit
from capabilities import needs_fork, needs_gil
from support import rounds

PRINTS = [
    *(sys.executable, "-I", "-S", "-c"),
    "import os; print(*sorted(f'{n}={v}' for n, v in os.environ.items()), sep='\\n')",
]
# By every engine, and with and without a manifest.
OPTIONS: list[Any] = [
    {},
    {"fds": {7: 2}},
    {"fds": {"a": 2}},
    pytest.param({"umask": 0o22}, marks=needs_fork),
    pytest.param({"umask": 0o22, "fds": {"a": 2}}, marks=needs_fork),
    pytest.param({"umask": 0o22, "fds": {0: 2, 3: 0}}, marks=needs_fork),
    pytest.param({"listen_fds": ["a"], "fds": {"a": 2}}, marks=needs_fork),
]


def seen(**options: Any) -> dict[str, str]:
    """Return the environment of a child, without what it is announced by."""
    lines = noinherit.run_with(PRINTS, stdout=-1, text=True, check=True, **options).stdout
    found = dict(line.split("=", 1) for line in lines.splitlines())
    return {name: found[name] for name in found if not name.startswith(("NOINHERIT_", "LISTEN_"))}


@needs_gil
@pytest.mark.parametrize("options", OPTIONS)
def test_putenv_and_unsetenv_reach_a_child(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOINHERIT_TEST", "x")  # os.environ and C agree again when it is undone
    os.environ["SECRET"] = "secret"
    assert seen(**options)["SECRET"] == "secret"
    os.putenv("GREETING", "hello")  # past os.environ
    os.unsetenv("SECRET")
    try:
        found = seen(**options)
        assert found["GREETING"] == "hello"
        assert "SECRET" not in found
        os.putenv("GREETING", "hallo")  # as long as the one before
        assert seen(**options)["GREETING"] == "hallo"
    finally:
        os.unsetenv("GREETING")
        del os.environ["SECRET"]
    assert "GREETING" not in seen(**options)


@pytest.mark.parametrize("env", [None, "os.environ"])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_child_gets_what_os_environ_has(env: Any, options: dict[str, Any]) -> None:
    given = env and os.environ
    expected = subprocess.run(PRINTS, env=given, stdout=-1, text=True, check=True).stdout
    ours = dict(line.split("=", 1) for line in expected.splitlines())
    assert seen(env=given, **options) == ours


CHURN = """
import os, sys, threading
import noinherit
sys.setswitchinterval(1e-5)
os.environ["KEPT"] = "kept"
stop = threading.Event()

def change():
    while not stop.is_set():
        for n in range(300): os.environ[f"G{n}"] = "x" * n
        for n in range(300): del os.environ[f"G{n}"]

changer = threading.Thread(target=change)
changer.start()
options, times, *command = sys.argv[1:]
try:
    for _ in range(int(times)):
        for env in None, os.environ:
            done = noinherit.run_with(command, env=env, stdout=-1, text=True, **eval(options))
            lines = done.stdout.splitlines()
            assert "KEPT=kept" in lines, lines
            for line in lines:
                name, _, value = line.partition("=")
                if name[1:].isdigit():
                    assert value == "x" * int(name[1:]), line
finally:
    stop.set()
    changer.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_it_is_whole_while_another_thread_changes_it(options: dict[str, Any]) -> None:
    args = [sys.executable, "-c", CHURN, repr(options), str(rounds(12)), *PRINTS]
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("options", [{}, pytest.param({"umask": 0o22}, marks=needs_fork)])
def test_a_child_gets_no_manifest_of_the_child_before(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOINHERIT_FDS", raising=False)
    for fds in {"a": 2}, {}:
        done = noinherit.run_with(PRINTS, fds=fds, stdout=-1, text=True, check=True, **options)
        assert ("NOINHERIT_FDS=" in done.stdout) == bool(fds)


@needs_fork
def test_of_two_variables_with_one_name_a_child_gets_what_os_environ_has() -> None:
    """A program can be started with such an environment; on CPython, the first one counts."""

    class Twice(dict[str, str]):
        def items(self) -> Any:
            return [*super().items(), ("NAME", "first"), ("NAME", "second")]

    script = (
        "import noinherit, os, sys\n"
        "print('NAME=' + os.environ['NAME'], flush=True)\n"
        "for options in {}, {'umask': 0o22}, {'fds': {'a': 2}, 'umask': 0o22}:\n"
        "    noinherit.run_with(sys.argv[1:], check=True, **options)\n"
    )
    args = [sys.executable, "-c", script, *PRINTS]
    # By umask= it is started by the engine that asks for items(); posix_spawn() counts them first.
    options: dict[str, Any] = {"env": Twice(os.environ), "umask": 0o22}
    done = subprocess.run(args, stdout=-1, text=True, check=True, **options)
    found = [line for line in done.stdout.splitlines() if line.startswith("NAME=")]
    assert len(found) == 4
    assert len({*found}) == 1
