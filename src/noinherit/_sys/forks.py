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

import os
import threading
from _weakrefset import WeakSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Owner(Protocol):
        """An object that a forked child must change."""

        def after_fork(self) -> None:
            """Close descriptors, reset counters; no other thread runs. Must not raise."""


# Reentrant: a signal handler, or a finalizer, may fork or spawn during a step.
held_off = threading.RLock()
_locks: WeakSet[Any] = WeakSet()
_owners: WeakSet[Owner] = WeakSet()


def register(owner: Owner) -> None:
    """Have ``owner.after_fork()`` called in every forked child, while `owner` is referenced."""
    _owners.add(owner)


def unregister(owner: Owner) -> None:
    """Undo `register`."""
    _owners.discard(owner)


def new_lock() -> threading.RLock:
    """Return a reentrant lock. In a forked child it is free, unless the forking thread held it."""
    lock = threading.RLock()
    _locks.add(lock)
    return lock


def _in_child() -> None:
    held_off.release()
    for lock in _locks:
        if not lock._is_owned():  # noqa: SLF001 -- as threading.Condition
            lock._at_fork_reinit()  # noqa: SLF001 -- as logging and concurrent.futures
    for owner in list(_owners):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=held_off.acquire, after_in_parent=held_off.release, after_in_child=_in_child
    )
