"""What the README and the documentation show runs, and what they link to is there.

A block of ``python`` is run by a child interpreter in a directory of its own; one whose first line
is ``# NAME`` is a file of that name for the blocks after it on the page, one of which must use it.
Of ``console``, what follows ``$`` is run by a shell and must say what is shown, but for numbers.
Three dots stand for anything. An HTML comment right before a block tells what else there is to
know: ``not run: REASON``, or ``needs: PROGRAM…``, where ``POSIX``, ``Linux``, ``pidfds-or-jobs``
and ``CGROUP``, the variable with a cgroup's directory, count as such. A comment may also hold a
block, which the page takes and its readers do not.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import cgroups
import noinherit
from noinherit import _sys, aio, run_with
from support import PYTEST_ADDOPTS

TREE = Path(__file__).parent.parent
PAGES = [TREE / "README.md", *sorted((TREE / "docs").glob("**/*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|needs): (?P<what>[^>]*?) -->\n+)?"
    r"^```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN = {"python", "console"}
SYSTEMS = {
    "POSIX": os.name == "posix",
    "Linux": sys.platform == "linux",
    "CGROUP": cgroups.works(),
    "pidfds-or-jobs": sys.platform == "win32" or hasattr(os, "pidfd_open"),
}
# There is nothing in them that could run; sh is for commands that change what they are run on.
SHOWN = {"text", "toml", "ini", "yaml", "c"}
# What would let a block see more than its own directory, and what tests/test_docs.py is run with.
FOREIGN = {"PYTHONPATH", "GNUPGHOME", "MAKEFLAGS", "COVERAGE_PROCESS_START"}
SCRIPTS = Path(sys.executable).parent
# Chromium keeps itself from running as root, which tests in a container are, and from ending while
# something of it looks for updates.
CHROMIUM = """#!/bin/sh
exec {real} --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking \
--disable-component-update --disable-sync --no-first-run "$@"
"""


class Block:
    """A fenced block, and the files that the page has made by then."""

    def __init__(self, page: Path, match: re.Match[str], files: dict[str, str]) -> None:
        self.page = page
        self.line = page.read_text(encoding="utf-8").count("\n", 0, match.start("language")) + 1
        self.language, self.text = match["language"], match["text"]
        self.mark, self.what = match["mark"], match["what"] or ""
        self.files = dict(files)
        named = re.match(r"# ([\w.]+\.\w+)\n", self.text)
        self.name = named[1] if named and self.language in (*RUN, *SHOWN) else None

    def __str__(self) -> str:
        return f"{self.page.relative_to(TREE).as_posix()}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    files: dict[str, str] = {}
    for match in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if match["language"].startswith("{"):
            continue  # it is Sphinx's
        block = Block(page, match, files)
        yield block
        if block.name is not None:
            files[block.name] = block.text


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def environment(directory: Path) -> dict[str, str]:
    environ = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    path = os.pathsep.join(map(str, (directory / "programs", SCRIPTS, os.environ["PATH"])))
    return {
        **environ,
        "PATH": path,
        "HOME": str(directory),
        "CGROUP": str(cgroups.here()),
        "PYTEST_ADDOPTS": PYTEST_ADDOPTS,
    }


def prepare(block: Block, directory: Path) -> dict[str, str]:
    """Put the page's files into `directory`; return the environment to run the block in."""
    if block.mark == "needs":
        for need in block.what.split():
            if need in SYSTEMS:
                if not SYSTEMS[need]:
                    pytest.skip(f"for {need}")
            elif shutil.which(need, path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}") is None:
                pytest.skip(f"{need} is not installed")
    for name, text in block.files.items():
        (directory / name).write_text(text, encoding="utf-8")
    programs = directory / "programs"
    programs.mkdir()
    if (real := shutil.which("chromium")) is not None:
        wrapper = programs / "chromium"
        wrapper.write_text(CHROMIUM.format(real=real))
        wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    return environment(directory)


def compared(text: str) -> str:
    """Return `text` without what differs from run to run; the line of a file is always the same."""
    text = re.sub(r" +$", "", text.strip(), flags=re.MULTILINE)
    return re.sub(r"(?<!\.py:)(?<!\d)\d+", "0", text)


def runnable(language: str) -> list[Block]:
    return [
        block
        for block in BLOCKS
        if block.language == language and block.name is None and block.mark != "not run"
    ]


@pytest.mark.parametrize("block", runnable("python"), ids=str)
def test_python(block: Block, tmp_path: Path) -> None:
    env = prepare(block, tmp_path)
    done = run_with(
        [sys.executable, "-X", "utf8", "-W", "error", "-c", block.text],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=50,
    )
    if (tmp_path / ".gnupg").exists():  # gpg has started its agent
        run_with(["gpgconf", "--kill", "all"], env=env, check=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(os.name == "nt", reason="consoles are shown with a POSIX shell")
@pytest.mark.parametrize("block", runnable("console"), ids=str)
def test_console(block: Block, tmp_path: Path) -> None:
    env = prepare(block, tmp_path)
    for session in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = session.partition("\n")
        done = run_with(
            ["sh", "-c", command],
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
        )
        pattern = re.escape(compared(shown)).replace(re.escape("..."), ".*")
        assert re.fullmatch(pattern, compared(done.stdout), re.DOTALL), done.stdout


# The modules whose docstrings have an example, and the functions that need one.
EXAMPLES = {
    "_audit": ["audit"],
    "_channel": ["socketpair"],
    "_flags": ["open_noinherit", "set_noinherit", "get_noinherit", "set_noinherit_all"],
    "_install": ["install", "uninstall"],
    "_jobserver": ["jobserver_fds"],
    "_plan": ["fd_arg"],
    "_run_with": ["run_with"],
    "_spawn_with": ["spawn_with"],
    "_trace": ["trace"],
    "aio": ["spawn_with", "open_channel"],
    "_inherited_fd": ["InheritedFd"],
    "child": ["inherited"],
    "_exec_with": ["exec_with"],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_docstrings(name: str, tmp_path: Path) -> None:
    if name == "_exec_with" and not _sys.backend.HAS_EXEC:
        pytest.skip("a process cannot become another program here")
    # In a child, which holds nothing that anybody left inheritable: audit would show it.
    script = (
        f"import doctest, noinherit, noinherit.{name} as module\n"
        "import asyncio, os, socket, subprocess, sys, tempfile\n"
        "public = {each: getattr(noinherit, each) for each in noinherit.__all__}\n"
        "found = doctest.DocTestFinder().find(module, extraglobs={**globals(), **public,"
        " **vars(module)})\n"
        "runner = doctest.DocTestRunner()\n"
        "for each in found: runner.run(each)\n"
        f"examples = {{each.name.rpartition('.')[2]: each.examples for each in found}}\n"
        f"assert all(examples[name] for name in {EXAMPLES[name]!r}), examples\n"
        "sys.exit(runner.summarize().failed)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = run_with(command, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_public_function_has_an_example() -> None:
    described = {(module, name) for module, names in EXAMPLES.items() for name in names}
    for module in (noinherit, aio):
        for name in module.__all__:
            function = getattr(module, name)
            if inspect.isfunction(function):
                home = function.__module__.rpartition(".")[2]
                assert (home, name) in described, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_left_out_in_silence(page: Path) -> None:
    blocks = list(blocks_of(page))
    for number, block in enumerate(blocks):
        assert block.language in RUN | SHOWN or block.mark == "not run", block
        assert block.what or not block.mark, block
        if block.name is not None:
            used = any(
                block.name.removesuffix(".py") in later.text for later in blocks[number + 1 :]
            )
            assert used, f"{block}: no block uses {block.name}"
    # Every fence was understood.
    assert "```" not in BLOCK.sub("", page.read_text(encoding="utf-8"))


def test_every_command_and_its_exit_statuses_are_on_the_page() -> None:
    page = (TREE / "docs" / "cli.md").read_text("utf-8")
    done = run_with([sys.executable, "-m", "noinherit", "--help"], capture_output=True, text=True)
    commands = re.findall(r"^ {4}([a-z]+)(?: |$)", done.stdout, re.MULTILINE)
    assert "run" in commands
    assert re.findall(r"^```\{command-help\} (\S+)$", page, re.MULTILINE) == commands


def test_every_variable_that_is_read_is_on_the_page() -> None:
    page = (TREE / "docs" / "environment.md").read_text("utf-8")
    source = "\n".join(
        path.read_text("utf-8") for path in Path(noinherit.__file__).parent.rglob("*.py")
    )
    read = re.findall(
        r"""environ(?:\.get\(|\[)"([A-Z_]+)"|"((?:NOINHERIT|LISTEN)_[A-Z]+)\"""", source
    )
    assert {"".join(each) for each in read} - {"LC_CTYPE"} <= {*re.findall(r"`([A-Z_]+)`", page)}


def test_a_plot_shows_what_its_table_shows() -> None:
    page = (TREE / "docs" / "performance.md").read_text("utf-8")
    pairs = re.findall(
        r"^(\|[^\n]*\n\|---.*?)\n\n!\[.*?\]\((\S+)\)", page, re.MULTILINE | re.DOTALL
    )
    assert len(pairs) == page.count("<!-- end of ") == 11
    for table, name in pairs:
        rows = [line.strip("|").split("|")[1:-1] for line in table.splitlines()[2:]]
        cells = [cell.strip() for row in rows for cell in row]
        plot = (TREE / "docs" / name).read_text("utf-8")
        assert re.findall(r">(\d+\.\d\d)</text>", plot) == [cell for cell in cells if cell != "-"]


def test_the_readme_is_short() -> None:
    assert len((TREE / "README.md").read_text("utf-8").splitlines()) < 90


def test_readme_and_change_log_have_the_version_of_the_package() -> None:
    version = tomllib.loads((TREE / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    newest = re.search(
        r"^## (\S+?)(?:,.*)?$", (TREE / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
    )
    assert newest is not None
    assert newest[1] == version
    assert f"version {version}" in (TREE / "README.md").read_text("utf-8")


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/platforms.md"])
def test_the_tests_and_tools_that_are_named_are_there(page: str) -> None:
    named = re.findall(r"`(?:tests/)?([\w/]+\.py)((?:::\w+)*)`", (TREE / page).read_text("utf-8"))
    assert named
    for file, inside in named:
        # A test is named by its path below tests/, a tool by the one from the top.
        path = TREE / "tests" / file
        text = (path if path.exists() else TREE / file).read_text(encoding="utf-8")
        for name in inside.split("::")[1:]:
            assert re.search(rf"(?:class|def) {name}\b", text), f"{file}{inside}"


# Words that hide the actor or the thing, and idioms of other languages.
HIDING = re.compile(
    r"\b(?:tells|also if|whoever|nobody|somebody|anybody|heirs?|meanwhile|likewise|but for|"
    r"there is none|other people|those who|(?:is|are|be|been) told|has them all|"
    r"is to (?:hold|have)|it (?:held|did not hold)|of people)\b"
    r"|, too[.;:]",
    re.IGNORECASE,
)


def read_by_users(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of public things in `path`, and the other strings, with their lines."""
    tree = ast.parse(path.read_text("utf-8"))
    public = not {"_sys", "_cli"} & {*path.parts}
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                name = path.stem if isinstance(node, ast.Module) else node.name
                if not public or (name.startswith("_") and name != "__init__"):
                    inner.add(id(first.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def test_what_users_read_names_the_actor() -> None:
    pages = [*PAGES, *(TREE / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"))]
    texts = {page: [(0, page.read_text("utf-8"))] for page in pages}
    examples = (TREE / "examples").glob("*.py")
    for path in [*Path(noinherit.__file__).parent.rglob("*.py"), *examples]:
        texts[path] = [*read_by_users(path)]
    found = [
        f"{path.name}:{line}: {match[0]!r}"
        for path, parts in texts.items()
        for line, text in parts
        if " " in text  # a single word is a name, such as that of the user nobody
        for match in HIDING.finditer(re.sub("`[^`\n]*`", "", text))
    ]
    assert not found, "\n".join(found)


def anchors(page: Path, level: str = "#+") -> set[str]:
    """Return the anchors that GitHub, and so myst, gives to the headings of `page`."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(rf"^{level} (.*)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-") for heading in headings
    }


def test_the_table_of_gotchas_has_every_section() -> None:
    table = (TREE / "docs" / "gotchas.md").read_text("utf-8")
    linked = re.findall(r"\]\(gotchas/(\w+)\.md#([\w-]+)\)", table)
    pages = (TREE / "docs" / "gotchas").glob("*.md")
    sections = [(page.stem, anchor) for page in pages for anchor in anchors(page, "##")]
    assert sorted(linked) == sorted(sections)


def test_gotchas_that_comments_name_are_there() -> None:
    named = 0
    for path in Path(noinherit.__file__).parent.rglob("*.py"):
        text = re.sub(r"\s*\n[ #]*", " ", path.read_text("utf-8"))
        for before, page, after in re.findall(r"(.{60})docs/(gotchas\S*\.md)(.{150})", text):
            headings = re.findall(
                r"^## (.*)$", (TREE / "docs" / page).read_text("utf-8"), re.MULTILINE
            )
            quoted = re.findall(r'"([^"]+)"', before) or re.findall(r'"([A-Z][^"]+)"', after)
            assert quoted, f"{path}: {page}"
            assert {*quoted} <= {*headings}, f"{path}: {page}"
            named += 1
    assert named > 3


@pytest.mark.parametrize("page", [*PAGES, *TREE.glob("[A-Z]*.md")], ids=lambda page: page.name)
def test_links(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name}: {target}"
