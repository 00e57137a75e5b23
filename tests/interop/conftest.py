"""Nothing of its own: mypy takes two modules called conftest for one, and refuses."""

from matrix import (
    library,
    program,
    pytest_addoption,
    pytest_configure,
    pytest_runtest_makereport,
    pytest_sessionfinish,
    version,
)

__all__ = [
    "library",
    "program",
    "pytest_addoption",
    "pytest_configure",
    "pytest_runtest_makereport",
    "pytest_sessionfinish",
    "version",
]
