"""pytest: tests that let descriptors slip into children fail, and say where those come from.

Off unless asked for, by ``--noinherit=warn`` or ``--noinherit=error``, or by ``noinherit = error``
in the ini file. The fixture `probe_child` is there in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ._probe_child import probe_child as _probe_child
from ._trace import described, exposed, shown, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Hashable, Iterable

    from ._probe_child import ProbedChild
    from ._trace import Place

_MODES = ("off", "warn", "error")


class NoinheritWarning(pytest.PytestWarning):
    """What ``--noinherit=warn`` has to say."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and its counterpart in the ini file."""
    text = "what to do with tests that let descriptors slip into children"
    parser.getgroup("noinherit").addoption("--noinherit", choices=_MODES, help=text)
    parser.addini("noinherit", f"{text}: {', '.join(_MODES)}", default="off")


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker; watch, if that is asked for."""
    config.addinivalue_line(
        "markers",
        "noinherit_exempt(reason): the test lets descriptors slip into children on purpose",
    )
    mode = config.getoption("noinherit") or config.getini("noinherit")
    if mode not in _MODES:
        raise pytest.UsageError(f"noinherit = {mode}: one of {', '.join(_MODES)}")
    if mode != "off":
        config.pluginmanager.register(_Watch(mode), "noinherit-watch")


class _Watch:
    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._tracing = trace()
        self._before: dict[tuple[int, Hashable], Place] = {}

    # From the collection on: modules open things when they are imported, too.
    def pytest_sessionstart(self) -> None:
        self._tracing.__enter__()

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
            # What the test itself has to say comes first.
            if text := self._leaked(item):
                item.add_report_section("call", "noinherit", text)
            raise
        self._judge(item, self._leaked(item))
        return result

    # After the fixtures' own teardown, which may close what the test leaves.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        result = yield
        text = self._leaked(item)
        new = {who: place for who, place in exposed().items() if who not in self._before}
        left = [] if _is_exempt(item) else [shown(*each) for each in described(new)]
        if left:
            text += _listing("left behind, for any child to inherit:", left)
        self._judge(item, text)
        return result

    def _leaked(self, item: pytest.Item) -> str:
        leaks = dict.fromkeys(map(str, self._tracing.leaks))
        self._tracing.leaks.clear()
        if not leaks or _is_exempt(item):
            return ""
        return _listing("given to a child although nobody listed it:", leaks)

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
    """Return a function that starts an independent child by yours, and tells what it was given.

    ``probe_child(start, *, timeout=30)`` calls ``start(args)`` once, with a list of strings:
    program and arguments of a child that imports nothing of noinherit's. It may start the child in
    any way, directly or through others, and may wait for it or not; a `subprocess.Popen` that it
    returns is waited for. The environment and the standard streams are its own affair.

    The result has ``extra``, a dict of what the child was given besides the standard streams:
    identities, as `noinherit.audit` has them, by number, on Windows by the value of the handle.
    ``held`` is the same with the standard streams, ``fds`` is by number on Windows, too. So a claim
    is one assertion::

        def test_nothing_slips_into_workers(probe_child):
            assert probe_child(lambda args: subprocess.run(args)).extra == {}

    Raises `TimeoutError` if no child has reported within `timeout` seconds after `start` returned,
    and what `start` raises.
    """
    return _probe_child
