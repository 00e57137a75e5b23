"""What may import what: no cycle, no way up, one place that knows the platform."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import noinherit
from noinherit import _sys

PACKAGE = Path(noinherit.__file__).parent
TREES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): ast.parse(path.read_text("utf-8"))
    for path in PACKAGE.rglob("*.py")
}
# What `_sys` may take from above it: values and errors, which take nothing themselves.
VALUES = {"_descriptor", "_entry", "_identity", "exceptions"}


def imports(file: str) -> Iterator[tuple[str, str | None, str]]:
    """Yield the imports of ours in `file`, in functions and for types, too.

    Each as the file that it is found in, what is taken from it (None: all of it), and the name it
    has here.
    """
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = file.split("/")[: -node.level]
            base = [*above, *(node.module or "").split(".")] if node.module else above
            for alias in node.names:
                here = alias.asname or alias.name
                inner = "/".join([*base, alias.name])
                if inner in TREES or f"{inner}/__init__" in TREES:
                    yield (inner if inner in TREES else f"{inner}/__init__"), None, here
                else:
                    outer = "/".join(base)
                    yield (outer if outer in TREES else f"{outer}/__init__"), alias.name, here


GRAPH = {file: {target for target, _, _ in imports(file)} for file in TREES}


def wing(file: str) -> str | None:
    return next((each for each in ("posix", "windows") if file.startswith(f"_sys/{each}/")), None)


def attributes(tree: ast.AST) -> set[tuple[str, str]]:
    """Return every ``name.attribute`` in `tree`."""
    return {
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def test_every_import_is_of_a_file_that_is_there() -> None:
    assert GRAPH["_plan"] >= {"_entry", "exceptions", "_sys/api"}
    assert {target for targets in GRAPH.values() for target in targets} <= TREES.keys()


def test_imports_make_no_cycle_not_even_for_types() -> None:
    try:
        graphlib.TopologicalSorter(GRAPH).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_platform_layer_imports_nothing_from_above_but_values() -> None:
    for file, targets in GRAPH.items():
        if file.startswith("_sys/"):
            upwards = {each for each in targets if not each.startswith("_sys/")}
            assert upwards <= VALUES, file


def test_values_import_only_values() -> None:
    for file in VALUES:
        assert GRAPH[file] <= VALUES, file


def test_a_wing_is_imported_by_itself_and_by_the_dispatch_only() -> None:
    for file, targets in GRAPH.items():
        wings = {wing(target) for target in targets} - {None}
        if file == "_sys/__init__":
            assert wings == {"posix", "windows"}
        else:
            assert wings <= {wing(file)}, file


def test_the_same_roles_have_the_same_names_in_both_wings() -> None:
    posix, windows = (
        {file.rpartition("/")[2] for file in TREES if wing(file) == each}
        for each in ("posix", "windows")
    )
    assert posix & windows == {"__init__", *_sys._ROLES}


def test_only_the_platform_layer_asks_for_the_platform() -> None:
    for file, tree in TREES.items():
        asked = attributes(tree) & {("sys", "platform"), ("os", "name")}
        assert not asked or file.startswith("_sys/"), file


def test_private_names_stay_in_their_file() -> None:
    for file, tree in TREES.items():
        taken = list(imports(file))
        private = [name for _, name, _ in taken if name and name.startswith("_")]
        modules = {here for _, name, here in taken if name is None}
        private += [
            name for module, name in attributes(tree) if module in modules and name.startswith("_")
        ]
        assert not private, file
