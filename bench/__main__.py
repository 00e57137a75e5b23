"""Compares noinherit with C, the standard library and others, and prints the ratios.

``python bench`` measures everything in one run; ``--quick`` with a tenth of the rounds. ``--write``
also puts tables and plots into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from comparisons import COMPARISONS, Posix
from measure import Comparison, Target
from report import table, write

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"


def windows(folder: Path, quick: bool) -> Comparison:
    """Run the comparison of Windows on a Windows Python in `folder`."""
    made = Comparison("windows", "handles, on Windows under Wine", Target("Popen", 1.15))
    tool = [sys.executable, "tools/windows_python.py", "run", str(folder)]
    rounds = "10" if quick else "60"
    done = subprocess.run(
        [*tool, "bench/windows.py", rounds], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    _, _, cases = done.stdout.partition("CASES ")
    made.cases = json.loads(cases)
    return made


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    parser.add_argument("--write", action="store_true", help="put the figures into the docs")
    parser.add_argument("--windows", type=Path, help="also on a Windows Python, built here")
    parser.add_argument("only", nargs="*", help="comparisons by name; all if none")
    options = parser.parse_args()

    wanted = options.only or COMPARISONS
    with tempfile.TemporaryDirectory() as folder:
        posix = Posix(Path(folder), options.quick)
        run = {name: getattr(posix, name) for name in COMPARISONS if name in wanted}
        if options.windows and (not options.only or "windows" in options.only):
            run["windows"] = lambda: windows(options.windows, options.quick)
        missed = []
        for name, comparison in run.items():
            before = time.monotonic()
            made = comparison()
            if not made.cases:
                print(f"\n{name}: nothing to compare with here", flush=True)
                continue
            print(f"\n{table(made)}\n({time.monotonic() - before:.0f} s)", flush=True)
            missed += [
                f"{name} {case}: {made.ratio(case, target.against):.2f} of {target.against}, "
                f"to reach {target.limit:.2f}"
                for case in made.cases
                for target, reached in made.verdicts(case)
                if not reached
            ]
            if options.write:
                write(made, PAGE)
    print("\nNot reached:", *(missed or ["nothing"]), sep="\n  ")


if __name__ == "__main__":
    main()
