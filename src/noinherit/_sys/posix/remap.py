"""How a child comes to hold a table of descriptors; pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Actions(Protocol):
        """What a child can be told to do with its descriptors before it runs."""

        def dup2(self, source: int, target: int) -> None: ...
        def close(self, number: int) -> None: ...
        def closefrom(self, low: int) -> None: ...


def remap(table: Mapping[int, int], actions: Actions) -> None:
    """Tell `actions` how a child comes to hold exactly `table`, {number: source}, above 2.

    Standard streams that are no key of `table` are left alone. As many numbers from 3 up as there
    are descriptors are the low ones, and there is a place for each among them:

    1. A source that sits where step 2 writes is first copied above all of that. A source that is
       its own target is one of those, so the copy back also clears its close-on-exec flag.
    2. Sources are copied to their targets; those with a high target to a low number that is free.
    3. Everything above the low numbers is closed in one go: strays, sources, and step 1's copies.
    4. What has a high target is moved there. No source is left that it could overwrite.

    The work does not grow with the numbers, only with how many there are.
    """
    low = 3 + sum(number > 2 for number in table)
    far = [number for number in table if number >= low]
    free = (number for number in range(3, low) if number not in table)
    place = {number: number for number in table if number < low}
    place.update(zip(far, free, strict=True))

    sources = set(table.values())
    written = set(place.values())
    copies: dict[int, int] = {}
    spare = low
    for source in sorted(sources & written):
        while spare in sources:
            spare += 1
        actions.dup2(source, spare)
        copies[source] = spare
        spare += 1
    for number, position in place.items():
        actions.dup2(copies.get(table[number], table[number]), position)
    actions.closefrom(low)
    for number in far:
        actions.dup2(place[number], number)
        actions.close(place[number])
