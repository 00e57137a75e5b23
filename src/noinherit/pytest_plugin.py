"""pytest plugin: fails tests that leak descriptors into children, and reports their origin.

It is off by default. Switch it on with ``--noinherit=warn`` or ``--noinherit=error``, or with
``noinherit = error`` in the ini file. The fixture `probe_child` is always available.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ._probe_child import ProbedChild
from ._probe_child import probe_child as _probe_child
from ._trace import BEFORE, described, exposed, inherited_text, shown, trace

if TYPE_CHECKING:
    from collections.abc import Generator, Hashable, Iterable

    from ._descriptor import Descriptor
    from ._trace import Place

__all__ = ["NoinheritWarning", "ProbedChild", "probe_child"]

_MODES = ("off", "warn", "error")


class NoinheritWarning(pytest.PytestWarning):
    """The warning that ``--noinherit=warn`` issues for a leak."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and its counterpart in the ini file."""
    text = "what to do with tests that leak descriptors into children"
    parser.getgroup("noinherit").addoption("--noinherit", choices=_MODES, help=text)
    parser.addini("noinherit", f"{text}: {', '.join(_MODES)}", default="off")


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker; start watching unless the mode is off."""
    config.addinivalue_line(
        "markers",
        "noinherit_exempt(reason): the test leaks descriptors into children on purpose",
    )
    mode = config.getoption("noinherit") or config.getini("noinherit")
    if mode not in _MODES:
        raise pytest.UsageError(f"noinherit = {mode}: must be one of {', '.join(_MODES)}")
    if mode != "off":
        config.pluginmanager.register(_Watch(mode), "noinherit-watch")


class _Watch:
    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._tracing = trace()
        self._before: dict[tuple[int, Hashable], Place] = {}
        self._inherited: list[tuple[Descriptor, Place]] = []

    # Starts before the collection, because modules may open descriptors when they are imported.
    def pytest_sessionstart(self) -> None:
        self._tracing.__enter__()
        # pytest's own parent leaked these, so no test is to blame.
        self._inherited = described(exposed())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._inherited:
            terminalreporter.section("noinherit")
            terminalreporter.line(inherited_text(self._inherited, "pytest"))

    def pytest_sessionfinish(self) -> None:
        self._tracing.__exit__()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self) -> Generator[None, object, object]:
        self._tracing.leaks.clear()
        self._before = exposed()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            result = yield
        except BaseException:
            # The test's own failure comes first.
            if text := self._leaked(item):
                item.add_report_section("call", "noinherit", text)
            raise
        self._judge(item, self._leaked(item))
        return result

    # Runs after the teardown of the fixtures, which may close the test's descriptors.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        result = yield
        text = self._leaked(item)
        new = {item: place for item, place in exposed().items() if item not in self._before}
        left = [] if _is_exempt(item) else [shown(*each) for each in described(new)]
        if left:
            text += _listing("left open and inheritable after the test:", left)
        self._judge(item, text)
        return result

    def _leaked(self, item: pytest.Item) -> str:
        new = [leak for leak in self._tracing.leaks if leak.origin is not BEFORE]
        leaks = dict.fromkeys(map(str, new))
        self._tracing.leaks.clear()
        if not leaks or _is_exempt(item):
            return ""
        return _listing("inherited by a child that should not have it:", leaks)

    def _judge(self, item: pytest.Item, text: str) -> None:
        if text and self._mode == "error":
            pytest.fail(f"noinherit: {text}", pytrace=False)
        elif text:
            item.warn(NoinheritWarning(text))


def _is_exempt(item: pytest.Item) -> bool:
    return item.get_closest_marker("noinherit_exempt") is not None


def _listing(title: str, things: Iterable[str]) -> str:
    return "\n".join([title, *things, ""])


@pytest.fixture(scope="session")
def probe_child() -> Callable[..., ProbedChild]:
    """Return a function that reports the descriptors of a child which your own code starts.

    ``probe_child(start, *, timeout=30)`` calls ``start(args)`` once. ``args`` is a list of strings,
    the command line of a child that is independent of noinherit. `start` may start this child in
    any way, directly or through other programs, with any environment and any standard streams. It
    need not wait for the child; a returned `subprocess.Popen` is waited for.

    The result has three dicts of identities, as in `noinherit.audit`, by number:

    - ``extra``: all inherited descriptors except the standard streams. On Windows, the numbers are
      the values of the handles.
    - ``held``: the same with the standard streams.
    - ``fds``: by descriptor number even on Windows.

    One assertion is enough to test a claim::

        def test_workers_inherit_nothing(probe_child):
            assert probe_child(lambda args: subprocess.run(args)).extra == {}

    Raises `TimeoutError` if no child has reported within `timeout` seconds after `start` returned.
    Exceptions of `start` are passed on.
    """
    return _probe_child
