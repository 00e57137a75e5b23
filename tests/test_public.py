"""What is public: the names of the package, their attributes and the page that describes them."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import noinherit
from noinherit import _options, aio, exceptions, pytest_plugin

API = Path(__file__).parent.parent / "docs" / "api.md"
MODULES: list[ModuleType] = [noinherit, aio, exceptions, pytest_plugin]
IDS = [module.__name__ for module in MODULES]
# Type checkers see the built-in open in its place.
UNTYPED = {"open_noinherit"}
# What decides between text and bytes stands in the overloads.
TEXT = {"text", "universal_newlines", "encoding", "errors"}


def described() -> dict[str, set[str]]:
    """Return the names that docs/api.md describes, by module."""
    names: dict[str, set[str]] = {module.__name__: set() for module in MODULES}
    module = ""
    for line in API.read_text("utf-8").splitlines():
        if match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif match := re.match(r"\.\. (?:auto|py:)(?:function|class|exception|data):: (\w+)", line):
            names[module].add(match[1])
        elif match := re.match(r"\.\. automodule:: noinherit\.(\w+)", line):
            names["noinherit"].add(match[1])
    return names


@pytest.mark.parametrize("module", MODULES, ids=IDS)
def test_all_is_sorted_and_every_name_in_it_is_an_attribute(module: ModuleType) -> None:
    names: list[str] = module.__all__
    assert names == sorted(names)
    assert [name for name in names if getattr(module, name, None) is None] == []
    assert {*names} <= {*dir(module)}


def functions() -> Iterator[Any]:
    """Yield every public function, and every public method of a public class."""
    for module in MODULES:
        for name in module.__all__:
            public = getattr(module, name)
            if inspect.isclass(public):
                for attribute, member in vars(public).items():
                    function = member.fget if isinstance(member, property) else member
                    # The other classes are made by functions only.
                    by_callers = issubclass(public, (noinherit.Process, Exception))
                    is_public = attribute[0] != "_" or (attribute == "__init__" and by_callers)
                    if inspect.isfunction(function) and is_public:
                        yield function
            elif callable(public):
                yield inspect.unwrap(public)


@pytest.mark.parametrize("function", [*functions()], ids=lambda each: each.__qualname__)
def test_type_hints_are_found_at_run_time(function: Any) -> None:
    if function.__qualname__ in UNTYPED:
        return
    hints = typing.get_type_hints(function)
    assert "return" in hints
    assert hints.keys() - {"return"} == inspect.signature(function).parameters.keys() - {"self"}


def test_the_page_describes_what_is_in_all() -> None:
    expected = {module.__name__: {*module.__all__} for module in MODULES}
    # The plugin imports pytest, so the package does not load it.
    expected["noinherit"] |= {"pytest_plugin"}
    # Sphinx takes the exceptions from their module: `members` is the default.
    expected["noinherit.exceptions"] = set()
    assert described() == expected


def test_what_is_loaded_on_first_use_is_public() -> None:
    assert noinherit._LATER.keys() <= {*noinherit.__all__}


@pytest.mark.parametrize("name", sorted(noinherit._LATER))
def test_a_name_is_loaded_on_first_use(name: str) -> None:
    script = f"import noinherit; assert {name!r} not in vars(noinherit); print(noinherit.{name})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert done.stdout


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'spawn'"):
        getattr(noinherit, "spawn")  # noqa: B009 -- type checkers would refuse the attribute


def test_every_option_of_popen_is_listed_for_type_checkers() -> None:
    popen = {*inspect.signature(subprocess.Popen).parameters}
    ours = {"cgroup", "die_with_parent", "lifeline", "listen_fds", "reset_signals"}
    assert {*_options.SpawnOptions.__annotations__} | TEXT | {"args"} >= popen
    for options in (_options.ProcessOptions, _options.SpawnOptions):
        assert options.__optional_keys__ == (popen | ours) - TEXT - {"args"}
        assert not options.__required_keys__


def test_what_is_public_for_types_is_there_at_run_time() -> None:
    assert isinstance(noinherit.fd_arg("x"), noinherit.FdArg)
    assert isinstance(3, noinherit.Key)
    assert "Mapping" in str(noinherit.Fds)
    assert noinherit.aio is importlib.import_module("noinherit.aio")
