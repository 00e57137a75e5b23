"""For hatchling: put the man page and the completions for shells into the wheel.

They are made from the parsers of the command, by argparse-manpage and shtab, which only a build
needs. An editable installation has none.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPLETIONS = {
    "bash": "share/bash-completion/completions/noinherit",
    "zsh": "share/zsh/site-functions/_noinherit",
    "fish": "share/fish/vendor_completions.d/noinherit.fish",
}
MAN_PAGE = "share/man/man1/noinherit.1"


class BuildHook(BuildHookInterface[Any]):
    """What hatchling calls."""

    directory_of_pages = ""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files before a wheel is built."""
        if version == "editable":
            return
        self.directory_of_pages = tempfile.mkdtemp()
        for name, text in generated(Path(self.root), self.metadata.version).items():
            path = Path(self.directory_of_pages, Path(name).name)
            path.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(path)] = name

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove them again."""
        if self.directory_of_pages:
            shutil.rmtree(self.directory_of_pages)


def generated(root: Path, version: str) -> dict[str, str]:
    """Return the text of each file, by its path below the environment that it is installed into."""
    import shtab  # noqa: PLC0415 -- for a wheel only

    os.environ.update(COLUMNS="80", PYTHON_COLORS="0")  # what argparse looks at
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(root / "src"))
    from noinherit._cli import main as command  # noqa: PLC0415 -- from this tree

    parser = command._parser()  # noqa: SLF001 -- it has no public name
    complete(parser)
    files = {path: shtab.complete(parser, shell) for shell, path in COMPLETIONS.items()}
    files[MAN_PAGE] = man_page(command._parser(), version)  # noqa: SLF001 -- likewise
    return files


def complete(parser: Any) -> None:
    """Say which arguments are files and directories, and what a command does in a few words."""
    import shtab  # noqa: PLC0415 -- for a wheel only

    kinds = {"chdir": shtab.DIRECTORY, "program": shtab.FILE}
    summaries = {each.dest: each.help for each in commands_of(parser)._choices_actions}  # noqa: SLF001 -- as below
    for name, each in commands_of(parser).choices.items():
        each.description = summaries[name]
        for action in each._actions:  # noqa: SLF001 -- as below
            if action.dest in kinds:
                action.complete = kinds[action.dest]


def commands_of(parser: Any) -> Any:
    """Return the action that has the parser of each command as its choice."""
    (commands,) = (each for each in parser._actions if each.dest == "command")  # noqa: SLF001 -- argparse has no public list
    return commands


def man_page(parser: Any, version: str) -> str:
    """Return the manual page, with the notes of each command in a section of its own."""
    from argparse_manpage.manpage import Manpage  # noqa: PLC0415 -- for a wheel only

    page = Manpage(parser, format="single-commands-section")
    page.description = "start children that hold exactly the descriptors you give them"
    page.source = f"noinherit {version}"
    page.manual = "noinherit"
    page.date = ""  # the same source makes the same page
    for name, each in commands_of(parser).choices.items():
        if each.epilog:
            # A plain "-" would become a hyphen, which no shell takes for an option's.
            text = each.epilog.replace("\\", "\\e").replace("-", "\\-")
            lines = [f"\\&{line}" for line in text.splitlines()]
            page.add_section(f"notes on {name}", ">", "\n".join([".nf", *lines, ".fi"]))
    return str(page)
