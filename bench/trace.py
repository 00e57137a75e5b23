"""What tracing costs: the same work with it and without, side by side in one run.

    python bench/trace.py [ROUNDS]

Three processes take turns: one that never traced, one that does, and one that did and stopped,
whose audit hook stays for ever. Prints how many times as long as the first the other two take:
medians of the rounds. 1.00 is no cost.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time

import noinherit

OPENS = 10_000
SPAWNS = 200
CHILD = ["true"] if shutil.which("true") else [sys.executable, "-I", "-S", "-c", ""]


def opens() -> None:
    for _ in range(OPENS):
        with open(os.devnull, "rb"):
            pass


def spawns() -> None:
    for _ in range(SPAWNS):
        subprocess.run(CHILD, check=True)


def careless_spawns() -> None:
    for _ in range(SPAWNS):
        subprocess.run(CHILD, check=True, close_fds=False)


def both() -> None:
    opens()
    spawns()


def calls() -> None:
    with open(os.devnull, "rb") as null:
        for _ in range(OPENS):
            os.set_inheritable(null.fileno(), True)


WORK = {
    f"{OPENS:,} opens and {SPAWNS} spawns": both,
    f"{OPENS:,} opens": opens,
    f"{SPAWNS} spawns": spawns,
    f"{SPAWNS} spawns with close_fds=False": careless_spawns,
    f"{OPENS:,} os.set_inheritable(..., True)": calls,
}
STATES = ("never traced", "tracing", "stopped")


def worker(state: str) -> None:
    """Do what standard input names, and answer with the seconds it took."""
    if state != "never traced":
        tracing = noinherit.trace()
        tracing.__enter__()
        if state == "stopped":
            tracing.__exit__()
    for line in sys.stdin:
        work = WORK[line.strip()]
        start = time.perf_counter()
        work()
        print(time.perf_counter() - start, flush=True)


def main(rounds: int) -> None:
    """Let the workers take turns, and print the medians."""
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", state],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for state in STATES
    ]

    def seconds(process: subprocess.Popen[str], name: str) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(name, file=process.stdin, flush=True)
        return float(process.stdout.readline())

    print(f"{'times as long as never traced':40} {'tracing':>8} {'stopped':>8}")
    for name in WORK:
        ratios = []
        for turn in range(rounds + 1):
            # Who is first changes from round to round: the machine is not the same for each.
            order = [*range(turn % 3, 3), *range(turn % 3)]
            took = {index: seconds(workers[index], name) for index in order}
            ratios.append([took[1] / took[0], took[2] / took[0]])
        medians = map(statistics.median, zip(*ratios[1:], strict=True))  # the first warms up
        print(f"{name:40}", *(f"{median:8.2f}" for median in medians), flush=True)
    for process in workers:
        process.communicate()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 15)
