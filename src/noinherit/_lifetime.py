"""What ends children when this process ends, kept for as long as there is something to end."""

from __future__ import annotations

from . import _sys
from ._sys import forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._sys.api import Leash

# A leash outlives the `Process`: a caller may drop that and expect the child to end all the same.
_lasting: set[Leash] = set()
# Those of children that have been reaped. What has left a group or a job behind stays here.
reaped: set[Leash] = set()


class _Forgetter:
    """Forgets the parent's leashes in a forked child: those close themselves there."""

    def after_fork(self) -> None:
        _lasting.clear()
        reaped.clear()


_forgetter = _Forgetter()
forks.register(_forgetter)


def leash(*, die_with_parent: bool, lifeline: bool) -> Leash | None:
    """Return a leash for a child that is about to be started, if it needs one."""
    if not (die_with_parent or lifeline):
        return None
    for each in tuple(reaped):
        child_has_ended(each)
    made = _sys.lifetime.leash(die_with_parent=die_with_parent, lifeline=lifeline)
    if die_with_parent and made is not None:
        try:
            _lasting.add(made)
        except BaseException:  # a signal handler raised it, and no caller has the leash
            _lasting.discard(made)
            raise
    return made


def child_has_ended(leash: Leash) -> None:
    """Close `leash`, one of `reaped`, unless it still has something to end."""
    if leash not in _lasting:
        reaped.discard(leash)
    elif leash.is_over():
        let_go(leash)


def let_go(leash: Leash) -> None:
    """Close `leash`: what it would have ended lives on."""
    _lasting.discard(leash)
    reaped.discard(leash)
    leash.close()
