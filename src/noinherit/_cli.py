"""The ``noinherit`` command."""

from __future__ import annotations

import argparse

from .exceptions import NoinheritError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="noinherit",
        description="Children that hold exactly the descriptors you gave them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser(
        "demo",
        help="see a listener leak, and the same listener given to one child",
        description="Starts real children around a real listener on the loopback interface: what "
        "a leaked one does, and what spawn_with does. Exit status 0 if it held.",
    )
    doctor = commands.add_parser(
        "doctor",
        help="what this system can do, and whether the promise holds on it",
        description="Tells platform, libc, features, the strategy in use and what it guarantees, "
        "and starts one child to see. Exit status 0 if it held.",
    )
    doctor.add_argument("--json", action="store_true", help="for programs instead of people")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return its exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        if options.command == "demo":
            from . import _demo  # noqa: PLC0415 -- only one command is run

            return _demo.main()
        from . import _doctor  # noqa: PLC0415 -- likewise

        return _doctor.main(options.json)
    except NoinheritError as error:
        parser.error(str(error))
