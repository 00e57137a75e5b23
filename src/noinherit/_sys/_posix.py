"""POSIX: the table is compiled to file actions, and libc starts the child."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import sys

from .. import _handoff, _plan
from ..exceptions import ClosedDescriptorError, UnknownStrategyError
from . import _libc, system
from ._api import Description, Held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from typing_extensions import Self

    from ._api import Words

assert sys.platform != "win32"

# What the interpreter ignores and subprocess's restore_signals gives back to children.
_RESTORED = _libc.Opaque()
_libc.sigemptyset(_RESTORED)
for _name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ"):
    if hasattr(signal, _name):
        _libc.sigaddset(_RESTORED, getattr(signal, _name))


class FileActions:
    """Owner of one ``posix_spawn_file_actions_t``; closes the rest by `closefrom`."""

    name = "closefrom"
    exact = True
    guarantee = "libc closes all other descriptors in the child, after it was made: nothing races."
    flags = 0

    @staticmethod
    def available() -> bool:
        """Return whether this libc has what the strategy takes."""
        return _libc.posix_spawn_file_actions_addclosefrom_np is not None

    def __init__(self) -> None:
        self.raw = _libc.Opaque()
        _libc.posix_spawn_file_actions_init(self.raw)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _libc.posix_spawn_file_actions_destroy(self.raw)

    def chdir(self, path: bytes) -> None:
        """Change the child's directory."""
        assert _libc.posix_spawn_file_actions_addchdir_np is not None
        _libc.posix_spawn_file_actions_addchdir_np(self.raw, path)

    def dup2(self, source: int, target: int) -> None:
        """Copy `source` to `target`, inheritable; the two are never the same."""
        _libc.posix_spawn_file_actions_adddup2(self.raw, source, target)

    def close(self, number: int) -> None:
        """Close `number`, which may be closed already."""
        _libc.posix_spawn_file_actions_addclose(self.raw, number)

    def closefrom(self, low: int) -> None:
        """Close everything from `low` up."""
        assert _libc.posix_spawn_file_actions_addclosefrom_np is not None
        _libc.posix_spawn_file_actions_addclosefrom_np(self.raw, low)


class Scan(FileActions):
    """Lists what is open here and now, and has each closed in the child."""

    name = "scan"
    exact = False
    guarantee = (
        "what is open here is listed and closed in the child; a descriptor that another thread "
        "opens inheritable between the listing and the start of the child slips through."
    )

    @staticmethod
    def available() -> bool:
        """Every POSIX system has a way to list descriptors."""
        return True

    def __init__(self) -> None:
        super().__init__()
        self._targets: set[int] = set()

    def dup2(self, source: int, target: int) -> None:
        """Also remember `target`: it is not open yet when `closefrom` looks."""
        super().dup2(source, target)
        self._targets.add(target)

    def closefrom(self, low: int) -> None:
        """Close everything from `low` up that is open in this process or was made on the way."""
        for number in sorted(self._targets.union(open_descriptors())):
            if number >= low:
                self.close(number)


class CloexecDefault(Scan):
    """Has the kernel treat every descriptor as close-on-exec that no action names (macOS)."""

    name = "cloexec-default"
    exact = True
    guarantee = "the kernel closes all descriptors in the child that no action names."
    flags = _libc.POSIX_SPAWN_CLOEXEC_DEFAULT

    @staticmethod
    def available() -> bool:
        """Return whether this is Apple's libc."""
        return _libc.posix_spawn_file_actions_addinherit_np is not None

    def closefrom(self, low: int) -> None:
        """Close only what the actions themselves made; keep the standard streams."""
        assert _libc.posix_spawn_file_actions_addinherit_np is not None
        for number in sorted(self._targets):
            if number >= low:
                self.close(number)
        for number in range(3):
            if number not in self._targets and inheritable(number):
                _libc.posix_spawn_file_actions_addinherit_np(self.raw, number)


STRATEGIES: tuple[type[FileActions], ...] = tuple(
    kind for kind in (CloexecDefault, FileActions, Scan) if kind.available()
)


def strategy() -> type[FileActions]:
    """Return the strategy that ``NOINHERIT_STRATEGY`` asks for, else the best one here."""
    name = os.environ.get("NOINHERIT_STRATEGY")
    if not name:
        return STRATEGIES[0]
    for kind in STRATEGIES:
        if kind.name == name:
            return kind
    raise UnknownStrategyError(name, tuple(kind.name for kind in STRATEGIES))


def limit() -> int:
    """Return the soft limit of open descriptors."""
    return os.sysconf("SC_OPEN_MAX")


def inheritable(number: int) -> bool:
    """Return whether `number` is open and would reach any child."""
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def open_descriptors() -> set[int]:
    """Return the numbers that are open in this process."""
    try:
        names = os.listdir("/dev/fd")
    except OSError:
        names = []
    listed = {int(name) for name in names if name.isdigit()}
    # FreeBSD without fdescfs mounted shows 0, 1 and 2 there and nothing else.
    return listed if listed - {0, 1, 2} else set(range(limit()))


@contextlib.contextmanager
def hold(entries: Iterable[_plan.Entry]) -> Iterator[list[Held]]:
    """Hold a copy of every descriptor, so that no other thread can put another in its place.

    The copies sit above the numbers that `_plan.remap` writes first, which saves it from moving
    them out of the way.
    """
    entries = list(entries)
    floor = min(3 + len(entries), limit() - 1)
    held: list[Held] = []
    try:
        for entry in entries:
            number = _plan.descriptor(entry.value, entry.key)
            try:
                copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, floor)
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise ClosedDescriptorError(entry.key, _plan.shown(entry.value)) from None
                raise
            held.append(Held(entry, copy))
        yield held
    finally:
        for each in held:
            os.close(each.copy)


def record(held: Held) -> _handoff.Record:
    """Return what the manifest tells the child about `held`."""
    return _handoff.record(held.key, held.number, held.copy)


def needs_standard_engine(options: Mapping[str, Any]) -> str | None:
    """Return the name of an option that this libc's posix_spawn cannot honour."""
    for name in ("preexec_fn", "user", "group", "extra_groups"):
        if options.get(name) is not None:
            return name
    if options.get("umask", -1) >= 0:
        return "umask"
    if options.get("start_new_session") and not _libc.POSIX_SPAWN_SETSID:
        return "start_new_session"
    if options.get("cwd") is not None and _libc.posix_spawn_file_actions_addchdir_np is None:
        return "cwd"
    return None


def check_stream(name: str, value: Any) -> None:
    """Accept everything: a standard stream is a descriptor like another."""


def private_copy(handle: int) -> int:
    """Return `handle`: Popen does not ask for copies here."""
    return handle


def expose(streams: Iterable[int]) -> None:
    """Do nothing: Popen's own engine makes them inheritable in the child."""


def spawn(
    words: Callable[[], Words],
    *,
    executable: Any,
    shell: bool,
    cwd: Any,
    streams: Mapping[int, int],
    held: Iterable[Held],
    restore_signals: bool,
    start_new_session: bool,
    process_group: int,
    startupinfo: Any,
    creationflags: int,
) -> tuple[int, Any]:
    """Start the child by :manpage:`posix_spawn(3)`."""
    args, env, added_env = words()
    args = _arguments(args, executable, shell)
    if executable is None:
        executable = args[0]
    sys.audit("subprocess.Popen", executable, args, cwd, env)
    argv = _strings([os.fsencode(arg) for arg in args])
    envp = _environment(env, added_env)
    directory = None if cwd is None else _string(os.fsencode(cwd))
    table = dict(streams)
    for each in held:
        table[each.number] = each.copy
    pid = ctypes.c_int()
    failure = errno.ENOENT
    with (
        strategy()() as actions,
        Attributes(actions.flags, restore_signals, start_new_session, process_group) as attributes,
    ):
        if directory is not None:
            actions.chdir(directory)
        _plan.remap(table, actions)
        for path in _candidates(_string(os.fsencode(executable)), directory, env):
            try:
                _libc.posix_spawn(ctypes.byref(pid), path, actions.raw, attributes.raw, argv, envp)
            except OSError as error:
                # As subprocess does: of all places on PATH, the first error that says more than
                # "not here" is the one to tell.
                if failure in _NOT_HERE:
                    failure = error.errno or failure
            else:
                return pid.value, None
    raise _explained(failure, executable, cwd, directory)


class Attributes:
    """Owner of one ``posix_spawnattr_t``."""

    def __init__(
        self, flags: int, restore_signals: bool, start_new_session: bool, process_group: int
    ) -> None:
        self.raw = _libc.Opaque()
        _libc.posix_spawnattr_init(self.raw)
        if restore_signals:
            flags |= _libc.POSIX_SPAWN_SETSIGDEF
            _libc.posix_spawnattr_setsigdefault(self.raw, _RESTORED)
        if start_new_session:
            flags |= _libc.POSIX_SPAWN_SETSID
        if process_group >= 0:
            flags |= _libc.POSIX_SPAWN_SETPGROUP
            _libc.posix_spawnattr_setpgroup(self.raw, process_group)
        _libc.posix_spawnattr_setflags(self.raw, flags)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _libc.posix_spawnattr_destroy(self.raw)


def _arguments(args: Any, executable: Any, shell: bool) -> list[Any]:
    if isinstance(args, (str, bytes)):
        args = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        args = [args]
    if shell:
        args = [executable or system.SHELL, "-c", *args]
    return list(args)


def _string(text: bytes) -> bytes:
    # C would end it there, and run something else than what was asked for.
    if b"\0" in text:
        raise ValueError("embedded null byte")
    return text


def _strings(texts: list[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    return (ctypes.c_char_p * (len(texts) + 1))(*map(_string, texts))


def _environment(
    env: Mapping[Any, Any] | None, added: Mapping[str, str]
) -> ctypes.Array[ctypes.c_char_p] | ctypes.Array[ctypes.c_void_p]:
    if env is not None:
        encoded = {
            os.fsencode(name): os.fsencode(value) for name, value in [*env.items(), *added.items()]
        }
        if any(b"=" in name for name in encoded):
            raise ValueError("illegal environment variable name")
        return _strings([name + b"=" + value for name, value in encoded.items()])
    # Python writes os.environ through to libc's environ. Its strings serve as they are, which
    # saves encoding each anew; its array is copied, for it moves when another thread adds one.
    extra = _strings([os.fsencode(f"{name}={value}") for name, value in added.items()])
    replaced = tuple(os.fsencode(name) + b"=" for name in added if name in os.environ)
    addresses = []
    array = ctypes.cast(system.environ_pointer() or 0, ctypes.POINTER(ctypes.c_void_p))
    index = 0
    while array and (address := array[index]):
        if not replaced or not ctypes.string_at(address).startswith(replaced):
            addresses.append(address)
        index += 1
    copied = (ctypes.c_void_p * (len(addresses) + len(extra)))(*addresses)
    end = ctypes.sizeof(ctypes.c_void_p) * len(addresses)
    ctypes.memmove(ctypes.byref(copied, end), extra, ctypes.sizeof(extra))
    copied.extra = extra  # type: ignore[attr-defined]  # keeps the added strings alive
    return copied


def _candidates(
    executable: bytes, cwd: bytes | None, env: Mapping[Any, Any] | None
) -> Iterator[bytes]:
    if os.path.dirname(executable):
        yield executable
        return
    for directory in os.get_exec_path(env):
        path = os.path.join(os.fsencode(directory), executable)
        try:
            # A relative directory is one of the child's.
            os.stat(os.path.join(cwd or b"", path))
        except (FileNotFoundError, NotADirectoryError):
            continue  # saves starting a child to learn that
        except OSError:
            pass  # the attempt will tell
        yield path


_NOT_HERE = {errno.ENOENT, errno.ENOTDIR}
# What execve(2) says of the program; anything else came before it.
_OF_THE_PROGRAM = {
    errno.E2BIG,
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOEXEC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.ETXTBSY,
}


def _explained(code: int, executable: Any, cwd: Any, encoded_cwd: bytes | None) -> OSError:
    """Return the error `subprocess` would raise: posix_spawn does not tell which step failed."""
    if encoded_cwd is not None:
        try:
            os.stat(os.path.join(encoded_cwd, b"."))  # needs what chdir needs
        except OSError as error:
            return OSError(error.errno, os.strerror(error.errno or code), cwd)
    if code in _OF_THE_PROGRAM:
        return OSError(code, os.strerror(code), executable)
    return OSError(code, os.strerror(code))


def wait_for_exit(pid: int, timeout: float) -> bool | None:
    """Return whether `pid` ends within `timeout` seconds; None if there is no event to wait on."""
    return system.wait_for_exit(pid, timeout)


def set_inheritable(obj: Any, inheritable: bool) -> None:
    """Set the flag of a descriptor."""
    os.set_inheritable(_plan.descriptor(obj), inheritable)


def get_inheritable(obj: Any) -> bool:
    """Return the flag of a descriptor."""
    return os.get_inheritable(_plan.descriptor(obj))


def set_noinherit_all(keep: Iterable[Any]) -> None:
    """Make everything open above 2, but `keep`, non-inheritable."""
    kept = set(map(_plan.descriptor, keep))
    first = 3
    for number in [*sorted(number for number in kept if number > 2), 2**32 - 1]:
        # An empty range is an error to the kernel.
        if first < number and not system.set_noinherit_range(first, number - 1):
            _walk(kept)
            return
        first = number + 1


def _walk(kept: set[int]) -> None:
    for number in open_descriptors():
        if number > 2 and number not in kept and inheritable(number):
            # Another thread may have closed it meanwhile.
            with contextlib.suppress(OSError):
                os.set_inheritable(number, False)


def describe() -> Description:
    """Return what this system and its libc can do."""
    chosen = strategy()
    return Description(
        strategy=chosen.name,
        strategies=tuple(kind.name for kind in STRATEGIES),
        exact=chosen.exact,
        guarantee=chosen.guarantee,
        features={
            "close the rest in the child": chosen.exact,
            "change directory in posix_spawn": (
                _libc.posix_spawn_file_actions_addchdir_np is not None
            ),
            "start a session in posix_spawn": bool(_libc.POSIX_SPAWN_SETSID),
            "wait for a child without polling": system.wait_for_exit(os.getpid(), 0) is False,
            "mark all descriptors at once": system.set_noinherit_range(2**31, 2**31),
        },
    )
