"""How it is measured: one after the other in turn, so that whatever the machine does hits all."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

OURS = "noinherit"


class Target:
    """What the ratio to `against` must not exceed, in `case` or in all of them."""

    def __init__(self, against: str, limit: float, case: str | None = None) -> None:
        self.against = against
        self.limit = limit
        self.case = case


class Comparison:
    """Medians per case and contender, and what was to be reached."""

    def __init__(self, name: str, title: str, *targets: Target) -> None:
        self.name = name
        self.title = title
        self.targets = targets
        self.cases: dict[str, dict[str, float]] = {}

    def ratio(self, case: str, contender: str) -> float:
        """Return how much noinherit takes of what `contender` takes."""
        return self.cases[case][OURS] / self.cases[case][contender]

    def verdicts(self, case: str) -> list[tuple[Target, bool]]:
        """Return which targets there are in `case`, and whether they are reached."""
        return [
            (target, self.ratio(case, target.against) <= target.limit)
            for target in self.targets
            if target.case in (None, case) and target.against in self.cases[case]
        ]


def timed(function: Callable[[], object]) -> Callable[[], float]:
    """Return a function that returns the seconds that `function` takes."""

    def run() -> float:
        before = time.perf_counter()
        function()
        return time.perf_counter() - before

    return run


def medians(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Return the median of what each contender returns, called in turn in random order."""
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    for name in order:
        contenders[name]()  # what is done once only
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            seen[name].append(contenders[name]())
    return {name: statistics.median(values) for name, values in seen.items()}
