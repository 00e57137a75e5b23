"""The pytest plugin, run as a user runs it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import leaks
import noinherit
from capabilities import needs_module
from support import PYTEST_ADDOPTS

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.noinherit_exempt("they leak on purpose")

# Where noinherit is on the path only, nothing tells pytest of it.
ENTRY = any(
    point.value == "noinherit.pytest_plugin"
    for point in importlib.metadata.entry_points(group="pytest11")
)
PLUGIN = [] if ENTRY else ["-p", "noinherit.pytest_plugin"]
PLAIN = {"PYTEST_ADDOPTS": PYTEST_ADDOPTS, "PYTHONDONTWRITEBYTECODE": "1"}

HEADER = f"""
import contextlib, os, subprocess, sys
import pytest
sys.path.insert(0, {str(Path(leaks.__file__).parent)!r})
import leaks
NOTHING = [sys.executable, "-I", "-S", "-c", ""]
"""


def run(pytester: pytest.Pytester, tests: str, *args: str, **options: Any) -> tuple[int, str]:
    """Run `tests` in a process that was given nothing but `fds`; return its status and output."""
    pytester.makepyfile(HEADER + tests)
    done = noinherit.run_with(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-vv", *PLUGIN, *args],
        cwd=pytester.path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # The width of what pytest prints, and nothing of the surrounding run.
        env={**os.environ, "COLUMNS": "200", **PLAIN},
        **options,
    )
    return done.returncode, done.stdout


def sections(output: str) -> dict[str, str]:
    """Return what was said of each test, by the heading."""
    parts = re.split(
        r"^_{3,} (.+) _{3,}$", output.partition("= short test summary")[0], flags=re.MULTILINE
    )
    return dict(zip(parts[1::2], parts[2::2], strict=True))


PLANTED = """
@pytest.mark.parametrize("way", leaks.WAYS, ids=lambda way: way.__name__)
def test_way(way, tmp_path):
    with contextlib.ExitStack() as keep:
        way(keep, tmp_path / "planted")
        subprocess.run(NOTHING, close_fds=False)

@pytest.mark.parametrize("way", leaks.WAYS, ids=lambda way: way.__name__)
def test_left(way, tmp_path):
    way(KEPT, tmp_path / "planted")

KEPT = contextlib.ExitStack()
"""


def test_the_plugin_reports_the_line(pytester: pytest.Pytester) -> None:
    status, output = run(pytester, PLANTED, "--noinherit=error")
    assert status == 1
    said = sections(output)
    for way in leaks.WAYS:
        given = said.pop(f"test_way[{way.__name__}]")
        assert "noinherit: inherited by a child that should not have it:\n" in given
        left = said.pop(f"ERROR at teardown of test_left[{way.__name__}]")
        assert "noinherit: left open and inheritable after the test:\n" in left
        for text in (given, left):
            assert re.findall("made inheritable: (.*)", text) == [leaks.origin(way)]
    assert not said, "nothing else is found fault with"


@pytest.mark.parametrize("mode", ["warn", "error"])
def test_what_pytest_itself_inherited_is_held_against_no_test(
    pytester: pytest.Pytester, tmp_path: Path, mode: str
) -> None:
    tests = "def test_it():\n    subprocess.run(NOTHING, close_fds=False)\n"
    with (tmp_path / "given").open("w") as given:
        status, output = run(pytester, 2 * tests, f"--noinherit={mode}", fds={3: given})
    assert (status, sections(output)) == (0, {})
    assert "warning" not in output
    reports = re.findall(r"^(\d+) inheritable descriptor.*$", output, re.MULTILINE)
    assert reports == ["1"], "once, in the summary"
    assert "To close it, use: noinherit run -- pytest ..." in output


def test_a_leak_beside_what_pytest_inherited(pytester: pytest.Pytester, tmp_path: Path) -> None:
    with (tmp_path / "given").open("w") as given:
        status, output = run(pytester, LEAKY, "--noinherit=error", fds={3: given})
    assert status == 1
    text = sections(output)["test_leaks"]
    assert len(re.findall("made inheritable: ", text)) == 1


CLEAN = """
import socket
import noinherit

def test_subprocess(): subprocess.run(NOTHING, check=True)
def test_streams(): subprocess.run(NOTHING, check=True, capture_output=True)
def test_close_fds(): subprocess.run(NOTHING, check=True, close_fds=False)
def test_system(): os.system("exit")
def test_popen(): os.popen("exit").close()
def test_open(tmp_path): (tmp_path / "a").open("w").close()
def test_noninheritable_left(): os.open(os.devnull, os.O_RDONLY)
def test_socket(): socket.create_server(("127.0.0.1", 0)).close()
def test_spawn_with():
    with open(os.devnull) as null:
        noinherit.run_with(NOTHING, fds={3: null}, check=True)
def test_put_back():
    with open(os.devnull) as null:
        os.set_inheritable(null.fileno(), True)

@pytest.fixture
def exposed(tmp_path):
    with contextlib.ExitStack() as keep:
        yield leaks.open_made_inheritable(keep, tmp_path / "a")

def test_fixture_puts_back(exposed): pass
def test_fixture_and_child(exposed): subprocess.run(NOTHING, check=True)
def test_probe(probe_child): assert probe_child(subprocess.run).extra == {}
"""


def test_the_plugin_is_quiet_for_clean_tests(pytester: pytest.Pytester) -> None:
    status, output = run(pytester, CLEAN, "--noinherit=error")
    assert (status, sections(output)) == (0, {})
    assert f"{CLEAN.count('def test_')} passed" in output


LEAKY = """
def leak():
    number = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(number, True)
    os.system("exit")

def test_leaks(): leak()
"""


@pytest.mark.parametrize(
    ("args", "ini", "wanted"),
    [
        ([], "", "1 passed in"),
        (["--noinherit=off"], "error", "1 passed in"),
        (["--noinherit=warn"], "", "1 passed, 2 warnings"),
        ([], "warn", "1 passed, 2 warnings"),
        (["--noinherit=error"], "warn", "1 failed, 1 error"),
        ([], "error", "1 failed, 1 error"),
        (["-p", "no:noinherit"], "", "1 passed in") if ENTRY else ([], "off", "1 passed in"),
        ([], "loud", "ERROR: noinherit = loud: must be one of off, warn, error"),
    ],
)
def test_the_plugin_has_three_modes(
    pytester: pytest.Pytester, args: list[str], ini: str, wanted: str
) -> None:
    if ini:
        pytester.makeini(f"[pytest]\nnoinherit = {ini}")
    _, output = run(pytester, LEAKY, *args)
    assert wanted in output


def test_what_the_test_says_itself_comes_first(pytester: pytest.Pytester) -> None:
    tests = LEAKY.replace("test_leaks(): leak()", "test_leaks(): leak(); assert 1 == 2")
    _, output = run(pytester, tests, "--noinherit=error")
    text = sections(output)["test_leaks"]
    assert "assert 1 == 2" in text
    assert "made inheritable: " in text.partition("Captured noinherit call")[2]


def test_a_marked_test_is_exempt(pytester: pytest.Pytester) -> None:
    tests = LEAKY.replace("def test_leaks", "@pytest.mark.noinherit_exempt('why')\ndef test_leaks")
    tests += "\ndef test_after(): pass\n"
    status, output = run(pytester, tests, "--noinherit=error", "--strict-markers")
    assert (status, "2 passed" in output) == (0, True)


@needs_module("xdist")
def test_pytest_begins_without_a_warning_where_noinherit_is_imported(tmp_path: Path) -> None:
    # As by a sitecustomize that calls install(). Only an installed package's names are looked at.
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    script = "import sys, noinherit, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    warnings = ["-W", "error", *shlex.split(PYTEST_ADDOPTS)]
    done = noinherit.run_with(
        [sys.executable, "-c", script, "-p", "no:cacheprovider", *PLUGIN, *warnings],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **PLAIN},
    )
    assert done.returncode == 0, done.stdout


def test_the_plugin_works_under_xdist(pytester: pytest.Pytester) -> None:
    status, output = run(pytester, PLANTED, "--noinherit=error", "-n2")
    assert status == 1
    assert len(sections(output)) == 2 * len(leaks.WAYS)


class TestProbeChild:
    def test_probe_child_reports_the_childs_table(self, tmp_path: Path, probe_child: Any) -> None:
        with (tmp_path / "a").open("w") as a:
            child = probe_child(
                lambda args: noinherit.spawn_with(args, fds={7: a}, stdin=subprocess.DEVNULL)
            )
            (here,) = [
                each for each in noinherit.audit() if each.number == leaks.number_of(a.fileno())
            ]
        assert list(child.extra.values()) == [here.identity]
        assert set(child.fds) >= {0, 1, 2, 7}
        assert child.fds[7] == here.identity
        assert len(child.held) == 4
        assert repr(child).startswith("<ProbedChild: extra={")

    def test_probe_child_raises_if_nothing_reports(self, probe_child: Any) -> None:
        with pytest.raises(TimeoutError, match=r"no child .* has reported"):
            probe_child(lambda args: None, timeout=0.1)

    def test_probe_child_passes_on_the_timeout_error_of_a_signal_handler(
        self, probe_child: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def accept(self: socket.socket) -> None:  # during which a signal comes
            raise TimeoutError("of the handler")

        monkeypatch.setattr(socket.socket, "accept", accept)
        with pytest.raises(TimeoutError, match="of the handler"):
            probe_child(lambda args: None)

    def test_probe_child_ignores_a_report_with_a_wrong_token(self, probe_child: Any) -> None:
        def start(args: list[str]) -> None:
            subprocess.run([*args[:-1], "wrong"], check=True)
            subprocess.run(args, check=True)

        assert probe_child(start).extra == {}
