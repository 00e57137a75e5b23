"""Proof under fire: ``python tests/stress/run.py`` runs a storm, a soak, faults and bad input.

It shows how far it is. ``--times 0.1`` does a tenth of it, ``--times 60`` goes on for hours. The
exit status is 0 if no child held anything but what it was given, and nothing was left behind.
``proof`` is the storm again with ``NOINHERIT_STRATEGY=scan``, which must find some strays: it shows
that the storm can. ``widths``, by its name only, is Windows's: children of either bitness, and
the helper is killed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "helpers"))

import soak
import storm
import widths

from support import WINE

EXAMPLES = 200 if WINE else 5_000


def tests(times: float) -> list[str]:
    """Run the faults, the bad input, and many requests with options of POSIX."""
    os.environ["NOINHERIT_EXAMPLES"] = str(max(int(EXAMPLES * times), 20))
    seconds = str(int(180 + 1020 * times))
    here = Path(__file__).parent
    arguments = ["-p", "no:cacheprovider", "--timeout", seconds, str(here)]
    arguments += [
        "--hypothesis-profile",
        "thorough",
        str(here.parent / "posix/test_posix_options.py"),
    ]
    # In a process of its own: pytest wants to see its plugins, noinherit's among them, imported.
    status = subprocess.call([sys.executable, "-m", "pytest", *arguments])
    return [f"pytest: exit status {status}"] if status else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=float, default=1.0, help="how much of it")
    parser.add_argument("only", nargs="*", help="tests, storm, proof, soak: all if none; widths")
    options = parser.parse_args()
    wrong: list[str] = []
    parts = {"tests": tests, "storm": storm.run, "proof": storm.prove, "soak": soak.run}
    parts["widths"] = widths.run
    if unknown := set(options.only) - set(parts):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    # By its name only: Wine 8 has no 32-bit half, and keeps eight handles of this process.
    for name in options.only or [name for name in parts if name != "widths"]:
        wrong += parts[name](options.times)
    for each in wrong[:20]:
        print("WRONG:", each)
    print("nothing leaked" if not wrong else f"{len(wrong)} wrong", flush=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
