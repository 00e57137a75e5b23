"""Who leaks what: descriptors that a child is given although nobody listed them, and their origin.

What is opened costs nothing here: it is not inheritable. The few functions that make it so note who
called them. The rest is found out when a child is started, of which an audit event tells, and only
if that child is given more than what was listed for it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading

from . import _sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping
    from types import FrameType
    from typing import Any, Self

    from ._descriptor import Descriptor
    from ._sys.api import Call

__all__ = ["Leak", "Place", "Trace", "trace"]


class Place:
    """A line of code: its `file`, its `line` and the `function` it is in.

    For what has none, `file` is empty, `line` 0, and `function` says it in words.
    """

    __slots__ = ("file", "function", "line")

    def __init__(self, file: str, line: int, function: str) -> None:
        self.file = file
        self.line = line
        self.function = function

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}" if self.file else self.function

    def __repr__(self) -> str:
        return f"<Place {self}>"


BEFORE = Place("", 0, "before tracing began")
NATIVE = Place("", 0, "native code")


class Leak:
    """A descriptor that a child was given although nobody listed it.

    `descriptor` is what it is, as `audit` tells it; `origin` the `Place` where it was made
    inheritable: ``before tracing began`` if it was so by then, ``native code`` if no Python code
    is known to have done it. `how` is the audit event of the start (``os.system``), `command`
    what was started, in words, empty for a fork; `started` is the `Place` of that.
    """

    __slots__ = ("command", "descriptor", "how", "origin", "started")

    def __init__(
        self, descriptor: Descriptor, origin: Place, how: str, command: str, started: Place
    ) -> None:
        self.descriptor = descriptor
        self.origin = origin
        self.how = how
        self.command = command
        self.started = started

    def __str__(self) -> str:
        return (
            f"{shown(self.descriptor, self.origin)}\n"
            f"  reached a child of {self.how}: {self.started}"
            + (f"\n  running {self.command}" if self.command else "")
        )

    def __repr__(self) -> str:
        return f"<Leak of {self.descriptor.number} by {self.how}, {self.started}>"


def shown(descriptor: Descriptor, origin: Place) -> str:
    """Return what a descriptor is and where it comes from, for people."""
    what = f"{descriptor.kind} {descriptor.name}".strip()
    return f"{descriptor.number} ({what})\n  made inheritable: {origin}"


# It must not be lost to a fork in another thread: see _switch_on.
_lock = threading.RLock()
_tracing: list[Trace] = []
# The audit events that are looked at; nothing while nobody traces, for a hook stays for ever.
_watched: dict[str, int | None] = {}
_hooked = False
_tracing_process = 0
# By number: who it was when it was made inheritable, and where that was. The lock is held from
# then until it is noted here, so that nothing is found before.
_origins: dict[int, tuple[Hashable, Place]] = {}
_patches: list[tuple[Any, str, Any, Any]] = []


class Trace:
    """A context in which every leak is seen; see `trace`.

    `leaks` is a list of all `Leak` objects so far, in their order.
    """

    def __init__(self, on_leak: Callable[[Leak], object] | None = None) -> None:
        self.leaks: list[Leak] = []
        self._on_leak = on_leak

    def __enter__(self) -> Self:
        with _lock:
            if not _tracing:
                _switch_on()
            _tracing.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            _tracing.remove(self)
            if not _tracing:
                _switch_off()

    def _add(self, leak: Leak) -> None:
        self.leaks.append(leak)
        if self._on_leak is not None:
            self._on_leak(leak)


def trace(on_leak: Callable[[Leak], object] | None = None) -> Trace:
    """Return a context manager that finds what leaks into children while it is on.

    >>> with noinherit.trace() as tracing:
    ...     done = subprocess.run([sys.executable, "-c", ""], close_fds=False)
    >>> for leak in tracing.leaks:
    ...     print(leak)

    It looks at every start of a process of which Python tells by an audit event, in any thread,
    just before it happens, and finds the inheritable descriptors above 2 that nobody listed for the
    child by ``pass_fds``, ``fds``, ``file_actions`` or a handle list. `on_leak` is called with each
    `Leak` as it is found, in the thread that starts the child; should it raise, the child is not
    started. Contexts may be nested, and one may be entered again; it then adds to its ``leaks``.

    While any is on, the few functions that make descriptors inheritable (`os.set_inheritable`,
    `os.dup2`, `fcntl.fcntl` and their like) are replaced by ones that note who called them.
    """
    return Trace(on_leak)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _watched:
        _look(event, arguments, sys._getframe(1))  # noqa: SLF001 -- documented, in spite of its name


def _switch_on() -> None:
    global _hooked, _tracing_process  # noqa: PLW0603 -- a hook is the process's, and cannot be removed
    watch = _sys.watch
    _origins.update((number, (who, BEFORE)) for number, who in watch.exposed().items())
    if not _hooked:
        sys.addaudithook(_hook)
        watch.around_fork(_lock.acquire, _lock.release)
        _hooked = True
    _tracing_process = os.getpid()
    for owner, name, waits, made in watch.makers():
        _replace(owner, name, functools.partial(_noting, waits, made))
    for owner, name in watch.starters():
        _replace(owner, name, _overheard)
    _watched.update(watch.STARTS)


def _switch_off() -> None:
    _watched.clear()
    while _patches:
        owner, name, before, ours = _patches.pop()
        # What somebody has put there meanwhile is theirs to take away.
        if vars(owner).get(name) is ours:
            if before is None:
                delattr(owner, name)  # it was inherited
            else:
                setattr(owner, name, before)
    _origins.clear()


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    ours = functools.wraps(original)(wrap(original))
    _patches.append((owner, name, vars(owner).get(name), ours))
    setattr(owner, name, ours)


def _noting(waits: bool, made: Callable[..., Iterable[int]], original: Any) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        if waits:
            result = original(*args, **kwargs)
            _note(made(result, *args, **kwargs), sys._getframe(1))  # noqa: SLF001 -- see _hook
        else:
            with _lock:
                result = original(*args, **kwargs)
                _note(made(result, *args, **kwargs), sys._getframe(1))  # noqa: SLF001 -- likewise
        return result

    return noting


def _note(numbers: Iterable[int], caller: FrameType) -> None:
    with _lock:
        # Somebody may have kept the function from when it was replaced.
        for number in numbers if _watched else ():
            who = _sys.watch.identity(number)
            if who is not None:
                _origins[number] = who, _place(caller)


class _Overheard(threading.local):
    call: Call | None = None


_ear = _Overheard()


def _overheard(original: Any) -> Any:
    def overheard(*args: Any, **kwargs: Any) -> Any:
        _ear.call = args, kwargs
        try:
            return original(*args, **kwargs)
        finally:
            _ear.call = None

    return overheard


def _look(event: str, arguments: tuple[Any, ...], frame: FrameType) -> None:
    # A forked child that runs another program has been looked at when it was forked.
    if event == "os.exec" and os.getpid() != _tracing_process:
        return
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    takes = _sys.watch.takes(event, frame, _ear.call)
    if takes is None:
        return
    found: list[tuple[Descriptor, Place]] = []
    # Out of an audit hook, an error of ours would keep the child from being started.
    with contextlib.suppress(OSError):
        found = described({who: place for who, place in exposed().items() if takes(who[0])})
    if not found:
        return
    words = _watched.get(event)
    if _ear.call is not None:
        arguments = _ear.call[0]  # the event's are garbled on Windows, and at the same places
    command = "" if words is None else _in_words(arguments[words])
    started = _place(frame)
    for descriptor, origin in found:
        leak = Leak(descriptor, origin, event, command, started)
        for tracing in set(_tracing):
            tracing._add(leak)  # noqa: SLF001 -- of this module


def exposed() -> dict[tuple[int, Hashable], Place]:
    """Return what any child would be given now, but the standard streams, and its origins."""
    with _lock:
        found = _sys.watch.exposed()
        # What is closed is not what gets its number next.
        for number in _origins.keys() - found.keys():
            del _origins[number]
        origins = {}
        for number, who in found.items():
            noted, place = _origins.get(number, (None, NATIVE))
            origins[number, who] = place if noted == who else NATIVE
        return origins


def described(found: Mapping[tuple[int, Hashable], Place]) -> list[tuple[Descriptor, Place]]:
    """Return what each of `found` is, and its origin."""
    origins = {number: place for (number, _), place in found.items()}
    if not origins:
        return []
    return [(each, origins[each.number]) for each in _sys.watch.describe(origins)]


def _in_words(words: Any) -> str:
    if isinstance(words, (str, bytes, os.PathLike)):
        return os.fsdecode(words)
    return " ".join(map(os.fsdecode, words))


_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 -- pathlib costs more than all of noinherit
_NOINHERIT = os.path.dirname(__file__) + os.sep  # noqa: PTH120 -- likewise


@functools.cache
def _is_users(file: str) -> bool:
    if file.startswith(_STANDARD_LIBRARY):
        return "site-packages" in file or "dist-packages" in file
    return not file.startswith(("<frozen ", _NOINHERIT))


def _place(frame: FrameType) -> Place:
    """Return the innermost line that is neither the standard library's nor noinherit's."""
    users: FrameType | None = frame
    while users is not None and not _is_users(users.f_code.co_filename):
        users = users.f_back
    frame = users or frame
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
