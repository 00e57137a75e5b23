"""Plans the copies and closes by which a child receives its table; makes no system call."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Actions(Protocol):
        """The operations that a child can perform on its descriptors before it runs the program."""

        def dup2(self, source: int, target: int) -> None: ...
        def close(self, number: int) -> None: ...
        def closefrom(self, low: int) -> None: ...


def remap(table: Mapping[int, int], actions: Actions) -> None:
    """Add to `actions` the steps after which a child holds exactly `table`, {number: source}.

    Standard streams that are not in `table` stay as they are. With N descriptors above 2, the
    numbers 3 to N + 2 are called the low numbers. There is one low number for each descriptor:

    1. If step 2 would overwrite a source, the source is first copied to a free number above the low
       ones. This includes a source that already has its target number: copying it back clears its
       close-on-exec flag.
    2. Each source is copied to its target. If the target is above the low numbers, the source is
       parked at a free low number instead.
    3. Everything above the low numbers is closed with one action: strays (unlisted open
       descriptors), sources, and the copies of step 1.
    4. Parked descriptors are moved to their final numbers, which by now are free.

    The amount of work depends on how many descriptors there are, not on their numbers.
    """
    low = 3 + sum(number > 2 for number in table)
    high = [number for number in table if number >= low]
    free = (number for number in range(3, low) if number not in table)
    first_target = {number: number for number in table if number < low}
    first_target.update(zip(high, free, strict=True))

    sources = set(table.values())
    written = set(first_target.values())
    copies: dict[int, int] = {}
    spare = low
    for source in sorted(sources & written):
        while spare in sources:
            spare += 1
        actions.dup2(source, spare)
        copies[source] = spare
        spare += 1
    for number, target in first_target.items():
        actions.dup2(copies.get(table[number], table[number]), target)
    actions.closefrom(low)
    for number in high:
        actions.dup2(first_target[number], number)
        actions.close(first_target[number])
