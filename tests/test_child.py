"""What the child gets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities import needs_fork, needs_program, needs_root
from noinherit import InheritedFd, _handoff, _sys, exceptions, run_with
from noinherit._sys import trust
from support import PRELUDE, child


class TestInherited:
    def test_inherited_finds_by_key_and_makes_non_inheritable(self) -> None:
        reader, writer = os.pipe()
        try:
            done = child(
                "fds = inherited()\n"
                "print(list(fds), [fd.kind for fd in fds.values()])\n"
                "assert all(not os.get_inheritable(fd.fileno()) for fd in fds.values())\n"
                "assert 'NOINHERIT_FDS' not in os.environ\n"
                "assert inherited() is fds\n"
                "with fds['out'].open('w') as out: out.write('hello')\n",
                {"out": writer, 7: reader},
            )
            assert done.stdout == "[7, 'out'] ['pipe', 'pipe']\n"
            assert os.read(reader, 99) == b"hello"
        finally:
            os.close(reader)
            os.close(writer)

    def test_a_taken_standard_stream_still_reaches_the_childs_children(
        self, tmp_path: Path
    ) -> None:
        script = (
            "streams = inherited()\nos.system('echo below')\nstreams[1].detach(); print('above')\n"
        )
        with (tmp_path / "out").open("w+") as out:
            run_with([sys.executable, "-c", PRELUDE + script], fds={1: out}, check=True)
            out.seek(0)
            assert out.read().split() == ["below", "above"]

    def test_inherited_is_empty_without_an_announcement(self) -> None:
        assert child("print(dict(inherited()))").stdout == "{}\n"

    def test_each_inherited_descriptor_is_taken_once(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = child(
                "fds = inherited()\n"
                "number = fds['a'].fileno()\n"
                "again, detached = fds['a'].fileno(), fds['a'].detach()\n"
                "assert number == again == detached > 2\n"
                "for method in ('fileno', 'detach', 'socket', 'open'):\n"
                "    print(refused(exceptions.AlreadyTakenError, getattr(fds['a'], method)))\n"
                "fds['a'].close()\n"
                "os.fstat(number)\n"
                "print(fds['a'], fds['b'])\n"
                "assert refused(OSError, fds['b'].socket).errno\n"
                "other = fds['b'].fileno()\n"
                "fds['b'].close()\n"
                "assert refused(OSError, os.fstat, other)\n"
                "print(refused(exceptions.NotInheritedError, fds.__getitem__, 'c'))\n"
                "assert refused(KeyError, fds.__getitem__, 3)\n"
                "assert 'c' not in fds and fds.get('c') is None\n",
                {"a": writer, "b": writer},
            )
        finally:
            os.close(writer)
        taken = "'a': this inherited descriptor was already taken\n"
        *refusals, shown, unknown = done.stdout.splitlines(keepends=True)
        assert refusals == [taken] * 4
        assert shown.startswith("<InheritedFd 'a': pipe taken> <InheritedFd 'b': pipe ")
        assert unknown == "'c': no such key; the parent handed over 'a' and 'b'\n"


@pytest.mark.parametrize("method", ["detach", "open", "close"])
def test_of_threads_that_take_one_at_once_one_gets_it(method: str) -> None:
    took: list[Any] = []

    def take() -> None:
        together.wait()
        with contextlib.suppress(exceptions.AlreadyTakenError):
            took.append(getattr(fd, method)())

    for _ in range(50):
        reader, writer = os.pipe()
        os.close(writer)
        fd = InheritedFd("a", _handoff.record("a", reader, reader))
        together = threading.Barrier(8)
        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if method == "close":  # another's would raise EBADF, or close what has the number by then
            assert len(took) == 8
        else:
            assert len(took) == 1
            os.close(took[0]) if method == "detach" else took[0].close()
        took.clear()


def test_what_could_not_be_opened_so_can_be_taken_otherwise() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"text")
    os.close(writer)
    try:
        done = child(
            "given = inherited()['a']\n"
            "for how in ({'mode': 'r+b'}, {'encoding': 'bogus'}, {'mode': 'zz'}):\n"
            "    try: given.open(**how)\n"
            "    except (LookupError, OSError, ValueError): os.fstat(given.fileno())\n"
            "    else: print(how)\n"
            "with given.open() as file: print(file.read())\n"
            "given.close()\n",
            {"a": reader},
        )
    finally:
        os.close(reader)
    assert done.stdout == "text\n"


INTERRUPTED = """
stat = os.stat
def strike(*_):  # as if a signal came
    os.stat = stat
    raise TimeoutError
os.stat = strike
try: inherited()
except TimeoutError: print("raised")
print(*inherited())
"""


@needs_fork  # elsewhere, nothing is asked of the system by that function
def test_the_timeout_error_of_a_handler_takes_nothing(make_file: Callable[[], int]) -> None:
    assert child(INTERRUPTED, {"a": make_file()}).stdout == "raised\na\n"


MISSING = "print(refused(exceptions.NotInheritedError, inherited().__getitem__, 'a').reason)\n"


class TestWhyAKeyIsMissing:
    def test_nothing_was_announced(self) -> None:
        assert child(MISSING).stdout == "\n"

    def test_it_is_not_among_what_was_announced(self, make_file: Callable[[], int]) -> None:
        assert child(MISSING, {"b": make_file()}).stdout == "\n"

    def test_it_was_closed(self, make_file: Callable[[], int]) -> None:
        script = "for number in range(3, 99):\n  try: os.close(number)\n  except OSError: pass\n"
        told = child(script + MISSING, {"a": make_file()}).stdout
        assert told.startswith("what NOINHERIT_FDS announces as 'a' is closed or was replaced")

    def test_it_is_for_another_process(self) -> None:
        told = child(MISSING, env={**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}).stdout
        assert told.startswith("LISTEN_FDS is for process 1, and this is ")
        env = {name: value for name, value in os.environ.items() if name != "LISTEN_PID"}
        told = child(MISSING, env={**env, "LISTEN_FDS": "1"}).stdout
        assert told == "LISTEN_FDS is for no process: LISTEN_PID is missing\n"

    @pytest.mark.parametrize("flag", ["-I", "-E"])
    def test_python_ignores_the_environment(self, flag: str, make_file: Callable[[], int]) -> None:
        script = f"import sys; sys.path = {sys.path!r}\n{PRELUDE}{MISSING}"
        done = run_with(
            [sys.executable, flag, "-c", script],
            fds={"a": make_file()},
            capture_output=True,
            text=True,
        )
        assert (done.stderr, done.stdout) == (
            "",
            "NOINHERIT_FDS is ignored: this Python ignores the environment (-I or -E)\n",
        )


# A starter that wants the program to take its own file for one that was handed over.
FORGED = """
import json, tempfile
file = tempfile.TemporaryFile()
status = os.fstat(file.fileno())
rows = [["a", file.fileno(), "socket", f"{status.st_dev:x}:{status.st_ino:x}"]]
os.environ["NOINHERIT_FDS"] = json.dumps({"v": 1, "fds": rows})
print(inherited()["a"].kind)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs identities that can be guessed")
def test_the_kind_is_the_kernels_word() -> None:
    assert child(FORGED).stdout == "file\n"


class TestMoreRightsThanTheStarter:
    """What Linux calls AT_SECURE: who started this process must not decide what it trusts."""

    REASON = "this process has more rights than the one that started it"

    @needs_root
    @pytest.mark.parametrize("ids", ["os.setresuid(65534, 0, 0)", "os.setresgid(65534, 0, 0)"])
    def test_other_effective_ids(self, ids: str, make_file: Callable[[], int]) -> None:
        start = f"import os, sys; {ids}; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        script = MISSING + "from noinherit import _sys; print(_sys.backend.describe().strategy)"
        done = run_with(
            [sys.executable, "-c", start, "-c", PRELUDE + script],
            fds={"a": make_file()},
            env={**os.environ, "NOINHERIT_STRATEGY": "no such thing"},
            capture_output=True,
            text=True,
        )
        reason, strategy = done.stdout.splitlines()
        assert (done.stderr, reason) == ("", f"NOINHERIT_FDS is ignored: {self.REASON}")
        assert strategy == _sys.backend.describe().strategies[0]

    @needs_root
    @pytest.mark.skipif(not hasattr(os, "setxattr"), reason="needs file capabilities")
    def test_file_capabilities(self) -> None:
        # CAP_DAC_READ_SEARCH, to read the library wherever it is; <linux/capability.h>.
        capability = struct.pack("<IIIII", 0x02000001, 1 << 2, 0, 0, 0)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)
            python = Path(folder, "python")
            shutil.copyfile(Path(sys.executable).resolve(), python)
            python.chmod(0o755)
            os.setxattr(python, "security.capability", capability)  # type: ignore[attr-defined,unused-ignore]  # see the mark
            script = (
                f"import sys; sys.path = {sys.path!r}\n"
                "from noinherit._sys import trust; print(trust.why_privileged())"
            )
            args = [str(python), "-S", "-c", script]
            env = {**os.environ, "PYTHONHOME": sys.base_prefix}
            for user, reason in ((0, ""), (65534, self.REASON)):
                try:
                    done = subprocess.run(
                        args, env=env, user=user, capture_output=True, text=True, check=False
                    )
                except PermissionError:
                    # The path of the dynamic linker is in the program, as of a Python in a folder.
                    pytest.skip("needs a dynamic linker that another user may run")
                assert (done.stdout, done.stderr) == (f"{reason}\n", "")

    @pytest.mark.skipif(sys.platform != "linux", reason="needs getauxval")
    def test_without_proc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trust, "_known", None)
        assert trust.why_privileged() == ""

    @needs_root
    def test_systemds_announcement(self, make_file: Callable[[], int]) -> None:
        start = (
            "import os, sys; os.setresuid(65534, 0, 0); os.environ['LISTEN_PID'] = str(os.getpid())"
            "\nos.environ.pop('NOINHERIT_FDS', None)"
            "\nos.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
        )
        done = run_with(
            [sys.executable, "-c", start, "-c", PRELUDE + MISSING],
            fds={3: make_file()},
            env={**os.environ, "LISTEN_FDS": "1"},
            capture_output=True,
            text=True,
        )
        assert (done.stderr, done.stdout) == ("", f"LISTEN_FDS is ignored: {self.REASON}\n")

    @needs_root
    def test_makes_jobserver(self) -> None:
        start = "import os, sys; os.setresuid(65534, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
        script = "import noinherit; print(noinherit.jobserver_fds())"
        reader, writer = os.pipe()
        with os.fdopen(reader), os.fdopen(writer):
            done = run_with(
                [sys.executable, "-c", start, sys.executable, "-c", script],
                fds=[reader, writer],
                env={**os.environ, "MAKEFLAGS": f" -j --jobserver-auth={reader},{writer}"},
                capture_output=True,
                text=True,
            )
        assert (done.stderr, done.stdout) == ("", "{}\n")


class TestStaleAnnouncements:
    def test_a_grandchild_ignores_what_was_not_for_it(self) -> None:
        reader, writer = os.pipe()
        try:
            # The grandchild inherits the variable, and nothing or something else under the number.
            done = child(
                "import subprocess\n"
                "script = 'import noinherit; print(dict(noinherit.inherited()))'\n"
                "args = [sys.executable, '-c', script]\n"
                "sys.stdout.write(subprocess.run(args, stdout=-1, text=True, check=True).stdout)\n",
                {"a": writer},
            )
        finally:
            os.close(reader)
            os.close(writer)
        assert done.stdout == "{}\n"

    @needs_fork  # elsewhere, exec keeps no descriptors
    def test_a_grandchild_with_something_else_there_ignores_it(self) -> None:
        reader, writer = os.pipe()
        try:
            done = child(
                "import json\n"
                "script = 'import noinherit; print(dict(noinherit.inherited()))'\n"
                "row = json.loads(os.environ['NOINHERIT_FDS'])['fds'][0]\n"
                "r, w = os.pipe(); os.dup2(w, row[1])\n"
                "os.execv(sys.executable, [sys.executable, '-c', script])",
                {"a": writer},
            )
        finally:
            os.close(reader)
            os.close(writer)
        assert done.stdout == "{}\n"

    def test_the_grandchild_of_one_that_took_over_is_told_nothing(self) -> None:
        reader, writer = os.pipe()
        try:
            done = child(
                "inherited()\n"
                "script = 'import os; print(os.environ.get(\"NOINHERIT_FDS\"))'\n"
                "sys.stdout.write(run_with([sys.executable, '-c', script],"
                " capture_output=True, text=True).stdout)",
                {"a": writer},
            )
        finally:
            os.close(reader)
            os.close(writer)
        assert done.stdout == "None\n"

    def test_a_new_announcement_replaces_an_old_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NOINHERIT_FDS", "stale")
        reader, writer = os.pipe()
        try:
            script = "print(list(inherited()))"
            assert child(script, {"a": reader}).stdout == "['a']\n"
            assert child(script, {"a": reader}, env=dict(os.environ)).stdout == "['a']\n"
        finally:
            os.close(reader)
            os.close(writer)


class TestManifest:
    @pytest.mark.slow
    @given(
        st.lists(
            st.tuples(
                st.integers() | st.text(min_size=1),
                st.integers(0, 2**31 - 1),
                st.text(),
                st.text(),
            ),
            unique_by=(lambda row: row[0], lambda row: row[1]),
        )
    )
    def test_a_manifest_is_read_as_it_was_written(
        self, rows: list[tuple[Any, int, str, str]]
    ) -> None:
        text = _handoff.encode([_handoff.Record(*row) for row in rows])
        assert text.isascii()
        assert "\0" not in text
        assert [(r.key, r.number, r.kind, r.identity) for r in _handoff.decode(text)] == rows

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "{",
            "[" * 100_000,
            "1" * 10_000,
            "null",
            "{}",
            '{"v": 1}',
            '{"v": 2, "fds": []}',
            '{"v": 1, "fds": {}}',
            '{"v": 1, "fds": [3]}',
            '{"v": 1, "fds": [["a", 3, "file"]]}',
            '{"v": 1, "fds": [["a", "3", "file", "1:2"]]}',
            '{"v": 1, "fds": [["a", -1, "file", "1:2"]]}',
            '{"v": 1, "fds": [["a", 2147483648, "file", "1:2"]]}',
            '{"v": 1, "fds": [["", 3, "file", "1:2"]]}',
            '{"v": 1, "fds": [[null, 3, "file", "1:2"]]}',
            '{"v": 1, "fds": [[true, 3, "file", "1:2"]]}',
            '{"v": 1, "fds": [["a", true, "file", "1:2"]]}',
            '{"v": 1, "fds": [["a", 3, "file", "1:2"], ["a", 4, "file", "1:2"]]}',
            '{"v": 1, "fds": [["a", 3, "file", "1:2"], ["b", 3, "file", "1:2"]]}',
        ],
    )
    def test_nonsense_is_refused(self, text: str) -> None:
        with pytest.raises(exceptions.MalformedManifestError, match="NOINHERIT_FDS=") as caught:
            _handoff.decode(text)
        assert caught.value.text == text

    def test_a_newer_manifest_says_so(self) -> None:
        with pytest.raises(exceptions.MalformedManifestError, match=r"version 2; .* reads 1"):
            _handoff.decode('{"v": 2, "fds": []}')

    @pytest.mark.slow
    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
    def test_any_json_manifest_is_read_or_refused(self, value: Any) -> None:
        for text in (json.dumps(value), json.dumps({"v": 1, "fds": value})):
            try:
                _handoff.decode(text)
            except exceptions.MalformedManifestError:
                continue

    def test_a_bad_manifest_is_one_line_in_the_child(self) -> None:
        done = child(
            "inherited()",
            check=False,
            stderr=subprocess.PIPE,
            env={**os.environ, "NOINHERIT_FDS": "nonsense"},
        )
        assert "MalformedManifestError: NOINHERIT_FDS='nonsense': not JSON" in done.stderr


@needs_program("sh")  # it knows its own pid
class TestSystemdSocketActivation:
    # LISTEN_PID must be the child's own pid, which a shell can set: exec keeps it.
    SHELL = 'export LISTEN_PID=$$; exec "$0" -c "$1"'

    def activated(self, script: str, fds: Any, **variables: str) -> str:
        prelude = "import os\nfrom noinherit import exceptions, inherited\n"
        done = run_with(
            ["sh", "-c", self.SHELL, sys.executable, prelude + script],
            fds=fds,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr.rpartition("noinherit.exceptions.")[2]

    @pytest.fixture
    def fds(self) -> Any:
        made = dict(enumerate([*os.pipe(), *os.pipe()], start=3))
        yield made
        for fd in made.values():
            os.close(fd)

    def test_systemds_names_and_numbers_are_read(
        self, fds: dict[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("NOINHERIT_FDS", raising=False)
        script = (
            "os.environ.pop('NOINHERIT_FDS')\n"
            "print({k: fd.fileno() for k, fd in inherited().items()})\n"
            "print([v for v in os.environ if v.startswith('LISTEN_')])\n"
            "print(any(os.get_inheritable(n) for n in range(3, 7)))\n"
        )
        told = {"LISTEN_FDS": "4", "LISTEN_FDNAMES": "http:x:unknown:x", "LISTEN_PIDFDID": "1"}
        assert self.activated(script, fds, **told) == "{'http': 3, 4: 4, 5: 5, 6: 6}\n[]\nFalse\n"
        assert self.activated(script, fds, LISTEN_FDS="2").startswith("{3: 3, 4: 4}\n")

    def test_our_own_announcement_comes_before_systemds(self, fds: dict[int, int]) -> None:
        script = "print(sorted((key, fd.fileno()) for key, fd in inherited().items()))"
        told = {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "other:x"}
        assert self.activated(script, fds, **told) == f"{[(n, n) for n in range(3, 7)]}\n"

    def test_systemds_variables_for_another_process_are_ignored(self) -> None:
        script = "print(dict(inherited()), 'LISTEN_FDS' in os.environ)"
        env = {**os.environ, "LISTEN_FDS": "1", "LISTEN_PID": "1"}
        assert child(script, env=env).stdout == "{} False\n"

    @pytest.mark.parametrize(
        ("variables", "message"),
        [
            ({"LISTEN_FDS": "x"}, "LISTEN_FDS='x': not a number of descriptors"),
            ({"LISTEN_FDS": "-1"}, "LISTEN_FDS='-1': not a number of descriptors"),
            ({"LISTEN_FDS": "9" * 5000}, "not a number of descriptors"),
            ({"LISTEN_FDS": "999999999"}, "descriptor 3 is not open"),
            ({"LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b"}, "2 names for 1 descriptors"),
        ],
    )
    def test_nonsense_is_refused(self, variables: dict[str, str], message: str) -> None:
        seen = self.activated("inherited()", (), **variables)
        assert seen.startswith("MalformedManifestError: ")
        assert message in seen
