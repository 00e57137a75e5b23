"""Whatever is asked for or announced: a documented exception or success, and nothing left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import noinherit
from noinherit import _handoff, _sys, child, exceptions
from probe import held
from support import CHEAP

EXAMPLES = int(os.environ.get("NOINHERIT_EXAMPLES", "100"))
anything = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

scalars: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.builds(object)
    | st.builds(noinherit.fd_arg, st.integers(0, 9) | st.text(min_size=1, max_size=3))
)
junk = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars)
# Mostly what might work: else nothing but the first check would ever be reached.
values = st.integers(0, 9) | st.sampled_from([sys.__stdout__, sys.__stderr__]) | junk
keys = st.integers(-1, 40) | st.text(max_size=4) | scalars.filter(lambda key: key == key)  # noqa: PLR0124 -- not NaN
fds = st.dictionaries(keys, values, max_size=4) | st.lists(values, max_size=4) | junk
words = st.sampled_from([CHEAP[0], "no-such-program", sys.executable, "", "a\0b"]) | junk
args = st.lists(words, max_size=3) | words
env = st.none() | st.dictionaries(st.text(max_size=4), st.text(max_size=4) | junk) | junk
cwd = st.sampled_from([None, ".", "/", "no-such-directory", "a\0b", b"."]) | junk


@anything
@given(args=st.just(CHEAP) | args, fds=fds, env=st.none() | env, cwd=st.none() | cwd)
def test_a_random_request_leaves_nothing(args: Any, fds: Any, env: Any, cwd: Any) -> None:
    before = held()
    try:
        noinherit.run_with(
            args,
            fds=fds,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
    except (noinherit.exceptions.RequestError, OSError, ValueError, TypeError) as error:
        # RequestError is ours; the others are subprocess's own for what is no argument at all.
        documented(error)
    except IndexError:
        assert not args  # as subprocess
    assert held() == before
    if sys.platform != "win32":
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


def documented(error: BaseException) -> None:
    assert str(error) or isinstance(error, OSError)
    if isinstance(error, exceptions.NoinheritError):
        assert vars(error)


manifests = (
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=12,
    ).map(json.dumps)
    | st.lists(
        st.tuples(
            st.integers(-1, 2**33) | st.text(max_size=4),
            st.integers(-1, 2**33),
            st.text(max_size=8),
            st.text(max_size=16),
        ),
        max_size=4,
    ).map(lambda rows: json.dumps({"v": 1, "fds": rows}))
)
numbers = st.integers().map(str) | st.just(str(os.getpid())) | st.text(max_size=6)


def announced(variables: Mapping[str, str]) -> None:
    """Take over what `variables` announce, as a child would."""
    before = held()
    with (
        mock.patch.dict(os.environ, variables),
        mock.patch.object(child, "_inherited", None),
        # What is announced here is the test's own.
        mock.patch.object(_sys.inherited, "make_noninheritable"),
    ):
        try:
            for key, each in noinherit.inherited().items():
                assert each.key == key
                assert repr(each)
        except exceptions.MalformedManifestError as error:
            documented(error)
        else:
            assert not variables.keys() & os.environ.keys()
    assert held() == before


def can_be_set(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


@anything
@given(text=manifests.filter(can_be_set))
def test_a_random_manifest_is_read_or_refused(text: str) -> None:
    announced({_handoff.VARIABLE: text})


@anything
@given(
    count=numbers.filter(can_be_set),
    pid=(st.just(str(os.getpid())) | numbers).filter(can_be_set),
    names=st.none() | st.text(":abunknown\ufffd", max_size=12) | st.text().filter(can_be_set),
)
def test_random_variables_of_systemd_are_read_or_refused(
    count: str, pid: str, names: str | None
) -> None:
    given = {"LISTEN_FDS": count, "LISTEN_PID": pid}
    announced(given if names is None else {**given, "LISTEN_FDNAMES": names})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        '{"v":1,"fds":' + "[" * 5_000 + "]" * 5_000 + "}",
        '{"v":1,"fds":[["a",' + "9" * 5_000 + ',"file","1:1"]]}',
        '{"v":1,"fds":[[true,3,"file","1:1"]]}',
        '{"v":1,"fds":[["a",3,"file","1:1"],["b",3,"file","1:1"]]}',
        '{"v":NaN,"fds":[]}',
        '{"v":1,"fds":[["\\ud800",3,"file","1:1"]]}',
        "",
    ],
)
def test_a_hostile_manifest_is_refused(text: str) -> None:
    announced({_handoff.VARIABLE: text})
