"""`trace`: finds descriptors that leak into children, and the line of code each one comes from.

- Opening a descriptor costs nothing extra: it is non-inheritable.
- The few functions that make a descriptor inheritable are wrapped. The wrapper notes the caller.
- An audit event reports the start of a child. Only then are the inheritable descriptors listed,
  and only if the child can inherit descriptors that the caller did not list.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable

from . import _sys
from ._descriptor import Descriptor
from ._printable import printable
from ._sys import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping
    from types import FrameType
    from typing import Any, Self

    from ._sys.api import Call

__all__ = ["Leak", "Place", "Trace", "trace"]


class Place:
    """A line of code.

    :ivar file: the path; empty if no line of code is known
    :ivar line: the line; 0 if no line of code is known
    :ivar function: the enclosing function; a description if no line of code is known
    """

    __slots__ = ("file", "function", "line")

    def __init__(self, file: str, line: int, function: str) -> None:
        self.file = file
        self.line = line
        self.function = function

    def __str__(self) -> str:
        if not self.file:
            return self.function
        return f"{printable(self.file)}:{self.line}, in {printable(self.function)}"

    def __repr__(self) -> str:
        return f"<Place {self}>"


BEFORE = Place("", 0, "before tracing began")
NATIVE = Place("", 0, "native code")


class Leak:
    """A descriptor that a child inherited although the caller did not list it.

    :ivar descriptor: the `Descriptor`, as in `audit`
    :ivar origin:
       The `Place` where it was made inheritable. It is ``before tracing began`` if it was
       inheritable by then, and ``native code`` if no Python code is known to have done it.
    :ivar how: the audit event of the start, such as ``os.system``
    :ivar command: the command line; it is empty for a fork
    :ivar started: the `Place` where the child was started
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
            + (f"\n  running {printable(self.command)}" if self.command else "")
        )

    def __repr__(self) -> str:
        return f"<Leak of {self.descriptor.number} by {self.how}, {self.started}>"


def shown(descriptor: Descriptor, origin: Place) -> str:
    """Return a description of a descriptor and its origin, for people."""
    return f"{_named(descriptor)}\n  made inheritable: {origin}"


def _named(descriptor: Descriptor) -> str:
    description = f"{descriptor.kind} {descriptor.name}".strip()
    return f"{descriptor.number} ({printable(description)})"


def inherited_text(found: Iterable[tuple[Descriptor, Place]], command: str) -> str:
    """Return a report of what was inheritable before tracing began, and how to close it."""
    names = [_named(descriptor) for descriptor, _ in found]
    one = len(names) == 1
    return (
        f"{len(names)} inheritable descriptor{'' if one else 's'} {'was' if one else 'were'} open "
        f"before {command} began: {', '.join(names)}. The program that started it leaked "
        f"{'it' if one else 'them'}. To close {'it' if one else 'them'}, use: "
        f"noinherit run -- {command} ..."
    )


# _switch_on registers it with os.fork: a child must not inherit it locked by another thread.
_lock = threading.RLock()
_tracing: list[Trace] = []
# The audit events to examine. Empty while no trace is active: an audit hook cannot be removed.
_watched: dict[str, int | None] = {}
_hooked = False
_tracing_process = 0
# By number: the identity when it was made inheritable, and the place. The lock is held from that
# call until the entry is here, so that no other thread finds the descriptor without its entry.
_origins: dict[int, tuple[Hashable, Place]] = {}
_patches: list[tuple[Any, str, Any, Any]] = []


class Trace:
    """A context manager that collects leaks; see `trace`.

    :ivar leaks: a list of all `Leak` objects so far, in the order of their discovery
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
    """Return a context manager that finds descriptors that leak into children while it is active.

    It examines every start of a process for which Python raises an audit event, in any thread, just
    before the start. It finds each inheritable descriptor above 2 that the caller did not list in
    ``pass_fds``, ``fds``, ``file_actions`` or a handle list.

    >>> with tempfile.TemporaryFile() as file, trace() as tracing:
    ...     set_noinherit(file, False)
    ...     done = subprocess.run([sys.executable, "-c", ""], close_fds=False)
    >>> [leak.descriptor.kind for leak in tracing.leaks]
    ['file']

    Contexts may be nested. One may be entered again; it then adds to its ``leaks``. While a context
    is active, the few functions that make descriptors inheritable (`os.set_inheritable`, `os.dup2`,
    `fcntl.fcntl` and similar ones) are replaced with wrappers that note the caller.

    :param on_leak:
       Called with each `Leak`, in the thread that starts the child. If it raises, the child is not
       started.
    :returns: the context manager; its ``leaks`` is a list of `Leak` objects

    Availability: Linux, macOS, BSD, Windows.
    """
    return Trace(on_leak)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _watched:
        _examine(event, arguments, sys._getframe(1))  # noqa: SLF001 -- documented, despite its name


def _switch_on() -> None:
    global _hooked, _tracing_process  # noqa: PLW0603 -- a process has one hook and cannot remove it
    watch = _sys.watch
    _origins.update((number, (identity, BEFORE)) for number, identity in watch.exposed().items())
    if not _hooked:
        sys.addaudithook(_hook)
        watch.around_fork(_lock.acquire, _lock.release)
        _hooked = True
    _tracing_process = os.getpid()
    for owner, name, waits, made in watch.flag_setters():
        _replace(owner, name, functools.partial(_noting_origin, waits, made))
    for owner, name in watch.spawners():
        _replace(owner, name, _noting_call)
    _watched.update(watch.STARTS)


def _switch_off() -> None:
    _watched.clear()
    while _patches:
        owner, name, before, ours = _patches.pop()
        # If another library has replaced the function since, leave its replacement in place.
        if vars(owner).get(name) is ours:
            if before is None:
                delattr(owner, name)  # the class has the function from a base class
            else:
                setattr(owner, name, before)
    _origins.clear()


def _replace(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    ours = functools.wraps(original)(wrap(original))
    _patches.append((owner, name, vars(owner).get(name), ours))
    setattr(owner, name, ours)


def _noting_origin(waits: bool, made: Callable[..., Iterable[int]], original: Any) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        if waits:
            result = original(*args, **kwargs)
            _note(made(result, *args, **kwargs), sys._getframe(1))  # noqa: SLF001 -- see _hook
        else:
            with _lock:
                result = original(*args, **kwargs)
                _note(made(result, *args, **kwargs), sys._getframe(1))  # noqa: SLF001 -- see _hook
        return result

    return noting


def _note(numbers: Iterable[int], caller: FrameType) -> None:
    with _lock:
        # A caller may have kept the wrapper and call it while no trace is active.
        for number in numbers if _watched else ():
            identity = _sys.watch.identity(number)
            if identity is not None:
                _origins[number] = identity, _place(caller)


class _PendingCall(threading.local):
    """The running call of one of the `spawners` in this thread."""

    call: Call | None = None


_pending_call = _PendingCall()


def _noting_call(original: Any) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        _pending_call.call = args, kwargs
        try:
            return original(*args, **kwargs)
        finally:
            _pending_call.call = None

    return noting


def _examine(event: str, arguments: tuple[Any, ...], frame: FrameType) -> None:
    # A forked child that calls exec was already examined at the fork.
    if event == "os.exec" and os.getpid() != _tracing_process:
        return
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    leaks = _sys.watch.leak_test(event, frame, _pending_call.call)
    if leaks is None:
        return
    found: list[tuple[Descriptor, Place]] = []
    # An exception from an audit hook would prevent the start of the child.
    with errors.suppressed():
        found = described({item: place for item, place in exposed().items() if leaks(item[0])})
    if not found:
        return
    index = _watched.get(event)
    if _pending_call.call is not None:
        # On Windows the event's arguments are garbled. The call has them at the same positions.
        arguments = _pending_call.call[0]
    command = "" if index is None else _command_line(arguments[index])
    started = _place(frame)
    for descriptor, origin in found:
        leak = Leak(descriptor, origin, event, command, started)
        for tracing in set(_tracing):
            tracing._add(leak)  # noqa: SLF001 -- of this module


def exposed() -> dict[tuple[int, Hashable], Place]:
    """Return all inheritable descriptors except the standard streams, with their origins."""
    with _lock:
        found = _sys.watch.exposed()
        # Forget closed descriptors: the next one with the same number has another origin.
        for number in _origins.keys() - found.keys():
            del _origins[number]
        origins = {}
        for number, identity in found.items():
            noted, place = _origins.get(number, (None, NATIVE))
            origins[number, identity] = place if noted == identity else NATIVE
        return origins


def described(found: Mapping[tuple[int, Hashable], Place]) -> list[tuple[Descriptor, Place]]:
    """Return the `Descriptor` and the origin for each of `found`."""
    origins = {number: place for (number, _), place in found.items()}
    if not origins:
        return []
    return [(each, origins[each.number]) for each in _sys.watch.describe(origins)]


def _command_line(args: Any) -> str:
    if isinstance(args, (str, bytes, os.PathLike)):
        return os.fsdecode(args)
    return " ".join(map(os.fsdecode, args))


_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 -- importing pathlib costs more than importing noinherit
_NOINHERIT = os.path.dirname(__file__) + os.sep  # noqa: PTH120 -- as above


@functools.cache
def _is_users(file: str) -> bool:
    if file.startswith(_STANDARD_LIBRARY):
        return "site-packages" in file or "dist-packages" in file
    return not file.startswith(("<frozen ", _NOINHERIT))


def _place(frame: FrameType) -> Place:
    """Return the innermost line of code outside the standard library and noinherit."""
    users: FrameType | None = frame
    while users is not None and not _is_users(users.f_code.co_filename):
        users = users.f_back
    frame = users or frame
    return Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
