"""Runs pytest and measures which lines of noinherit it reaches, also in xdist's workers.

    python tools/measure.py PYTEST-ARGUMENTS…

``coverage run`` would not measure in the workers. As a plugin, this file is the first that each of
them imports: before noinherit's.
"""

from __future__ import annotations

import sys

import pytest

if __name__ == "__main__":
    # xdist's workers have this process's sys.path, and so this folder.
    sys.exit(pytest.main(["-p", "measure", *sys.argv[1:]]))

import coverage

_measuring = coverage.Coverage()
_measuring.start()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:  # xdist ends a worker that takes long after this
    """Save what was reached."""
    _measuring.stop()
    _measuring.save()
