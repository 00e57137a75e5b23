"""What a forked child must not keep: this process's descriptors in flight, and its locks' state.

A fork copies every descriptor and every lock, but only the thread that forks. In the child, the
other threads' private copies would stay open, and their locks would stay locked. `multiprocessing`
forks by default on Linux before Python 3.14.

- ``with held_off:`` around each step that creates or closes such a descriptor. No thread forks
  during the step, so a forked child finds every one of them in a registered owner.
- `register` an owner: in a forked child, its ``after_fork`` closes what the child must not have.
- `new_lock` returns a lock that is free in a forked child.

Forks by C code do not run this. They mostly call exec next, which closes all of these descriptors.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from _weakref import ref  # as weakref.ref, which threading has not loaded everywhere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Owner(Protocol):
        """An object that a forked child must change."""

        def after_fork(self) -> None:
            """Close descriptors, reset counters; no other thread runs. Must not raise."""


class Lock(type(threading.RLock())):  # type: ignore[misc]  # the class has no public name
    """A `threading.RLock` that a signal handler cannot leave locked by raising an exception."""

    if sys.version_info[:2] == (3, 14):
        # There, a handler may run between RLock.__enter__ and the block, without an __exit__.
        def __enter__(self) -> bool:
            try:
                return bool(self.acquire())
            except BaseException:
                if self._is_owned():
                    self.release()
                raise

    def after_fork(self) -> None:
        """Make it free, in a forked child, unless the forking thread holds it."""
        if not self._is_owned():
            self._at_fork_reinit()

    def after_own_fork(self) -> None:
        """Undo what the function before the fork has done, in a forked child."""
        if self._is_owned():
            self.release()
        else:  # the fork began before this module was loaded; another thread may have locked it
            self._at_fork_reinit()


# Reentrant: a signal handler, or a finalizer, may fork or spawn during a step.
held_off = Lock()
# References without a callback: that would be Python code, which swallows what a signal handler
# raises. Dead ones are dropped when there are many.
_owners: dict[ref[Owner], None] = {}
_many = 100


def register(owner: Owner) -> None:
    """Have ``owner.after_fork()`` called in every forked child, while `owner` is referenced."""
    global _many  # noqa: PLW0603 -- grows with the number of owners that are alive
    _owners[ref(owner)] = None
    if len(_owners) > _many:
        for each in list(_owners):
            if each() is None:
                _owners.pop(each, None)
        _many = max(100, 2 * len(_owners))


def unregister(owner: Owner) -> None:
    """Undo `register`."""
    _owners.pop(ref(owner), None)


def new_lock() -> Lock:
    """Return a reentrant lock that is free in a forked child."""
    lock = Lock()
    register(lock)
    return lock


def _in_child() -> None:
    for each in list(_owners):
        owner = each()
        if owner is not None:
            with contextlib.suppress(OSError):  # the others must have their turn
                owner.after_fork()


if hasattr(os, "register_at_fork"):
    # A fork that has begun by now calls only what is after it. Then release() raises, and Python
    # reports an ignored exception. It is not in a Python function that prevents this: a signal
    # handler could raise at the start of that, and leave the lock locked.
    os.register_at_fork(
        before=held_off.acquire,
        after_in_parent=held_off.release,
        after_in_child=held_off.after_own_fork,
    )
    os.register_at_fork(after_in_child=_in_child)
