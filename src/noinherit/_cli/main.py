"""The ``noinherit`` command."""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib.metadata
import platform
import re
import subprocess
import sys

from .. import _sys
from .._printable import printable
from ..exceptions import NoinheritError
from . import audit, opening, output, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn, TypeAlias

_UNREAD = 128 + 13  # as a shell reports a program that SIGPIPE has ended


class _Parser(argparse.ArgumentParser):
    """A parser whose messages are printed by `output`, and that suggests options."""

    def print_help(self, file: object = None) -> None:
        for line in self.format_help().splitlines():
            output.say(line)
        output.flush()

    def error(self, message: str) -> NoReturn:
        output.tell(self.format_usage())
        output.tell(f"{self.prog}: error: {printable(message)}")
        raise SystemExit(output.FAILED)

    # A command's own parser refuses what it does not know; argparse would leave that to the first.
    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [each for each in self._option_string_actions if each.startswith("--")]
            close = difflib.get_close_matches(unknown[0].partition("=")[0], options, 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known, unknown


if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[_Parser]  # noqa: SLF001 -- it has no other name


def _parser() -> _Parser:
    parser = _Parser(
        prog="noinherit",
        description="Starts children that hold exactly the descriptors you give them, and finds "
        "descriptors that leak.",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser(
        "demo",
        help="show a listener that leaks, and the same listener given to one child",
        description="Starts real children around a real listener on the loopback interface: first "
        "a listener that leaks, then one that spawn_with gives to one child. The exit status is 0 "
        "if the guarantee holds.",
    )
    doctor = commands.add_parser(
        "doctor",
        help="show the capabilities of this system, and whether the guarantee holds",
        description="Shows platform, C library, features, the strategy in use and its guarantee, "
        "and starts one child to check that. The exit status is 0 if the guarantee holds.",
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    _add_audit(commands)
    _add_run(commands)
    _add_trace(commands)
    return parser


def _pid(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a process id; for a name, use --name")
    return int(text)


def _add_audit(commands: Commands) -> None:
    auditor = commands.add_parser(
        "audit",
        help="list what a process holds open, and what its children would inherit",
        description="Lists the open descriptors of processes, and whether children inherit them.",
        epilog=audit.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    auditor.add_argument("pids", type=_pid, nargs="*", metavar="PID", help="process ids")
    auditor.add_argument(
        "--name",
        action="append",
        default=[],
        dest="names",
        metavar="NAME",
        help="also every process with this name (Linux)",
    )
    auditor.add_argument(
        "--inheritable", action="store_true", help="list only inheritable descriptors"
    )
    auditor.add_argument(
        "--holders",
        action="store_true",
        help="also show which other processes hold the same objects (Linux)",
    )
    auditor.add_argument("--json", action="store_true", help="print JSON")


def _add_run(commands: Commands) -> None:
    runner = commands.add_parser(
        "run",
        help="open files and ports, and start a command that holds exactly those",
        usage="noinherit run [OPTION ...] -- COMMAND ...",
        # A raw description is not wrapped.
        description="Starts COMMAND with the standard streams and what the options open, and\n"
        "nothing else. Options can be repeated.",
        epilog=run.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    runner.add_argument(
        "--fd",
        action="append",
        default=[],
        type=opening.file_argument,
        metavar="KEY=PATH[:MODE]",
        help="open PATH; KEY is its number in the command, or a name",
    )
    runner.add_argument(
        "--listen",
        action="append",
        default=[],
        type=opening.listen_argument,
        metavar="[NAME=]ADDRESS",
        help="listen there: HOST:PORT, udp:HOST:PORT or unix:PATH",
    )
    runner.add_argument(
        "--socket-mode",
        type=opening.mode_argument,
        metavar="MODE",
        help="the permissions of each unix:PATH, in octal, such as 660; without it, what the umask "
        "allows",
    )
    runner.add_argument(
        "--env",
        action="append",
        default=[],
        type=opening.variable_argument,
        metavar="NAME=VALUE",
        help="put this into the command's environment",
    )
    runner.add_argument("--chdir", metavar="DIR", help="start the command in DIR")
    runner.add_argument(
        "--die-with-parent",
        action="store_true",
        help="end the command when this program ends, by whatever death",
    )
    runner.add_argument(
        "--kill-descendants",
        action="store_true",
        help="when the command has ended, end what it has left running (Linux, Windows)",
    )
    runner.add_argument(
        "command_line", nargs=argparse.REMAINDER, metavar="COMMAND", help="and its arguments"
    )
    runner.set_defaults(refuse=runner.error)


def _add_trace(commands: Commands) -> None:
    tracer = commands.add_parser(
        "trace",
        help="run a Python program and report what leaks into its children, with the line of code",
        description="Runs a program as python does, and reports on standard error the inheritable "
        "descriptors that its children receive unlisted. The exit status is the program's; it is 1 "
        "if that would be 0 and a descriptor leaked. What this command itself inherited is "
        "reported once and is no leak of the program.",
    )
    tracer.add_argument("-m", dest="module", action="store_true", help="PROGRAM is a module's name")
    tracer.add_argument(
        "--json", action="store_true", help="report each leak as one line of JSON instead"
    )
    tracer.add_argument("program", metavar="PROGRAM", help="a script, or with -m a module")
    tracer.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")


def _version() -> str:
    try:
        version = importlib.metadata.version("noinherit")
    except importlib.metadata.PackageNotFoundError:  # it is on the path, but not installed
        version = "(not installed)"
    return f"noinherit {version}, Python {platform.python_version()}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return its exit status."""
    command = ""
    try:
        parser = _parser()
        options = parser.parse_args(argv)
        command = options.command or ""
        if command == "run":
            return run.main(options)
        if command == "trace":
            from . import trace  # noqa: PLC0415 -- only one command is run

            return trace.main(options)
        status = _print(parser, options)
        output.flush()
    except output.UnwrittenError as unwritten:
        output.discard(sys.stdout)
        unread = unwritten.error is not None and _is_unread(unwritten.error)
        return _UNREAD if unread else output.fail(command, str(unwritten))
    except NoinheritError as error:
        return output.fail(command, str(error))
    return status


def _is_unread(error: OSError) -> bool:
    # Windows' C runtime says EINVAL (https://bugs.python.org/issue35754); Win32's own has a number.
    from_runtime = error.errno == errno.EINVAL and getattr(error, "winerror", error) is None
    return from_runtime or isinstance(error, BrokenPipeError)


def _print(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Run a command that prints; return its exit status."""
    if options.version:
        output.say(_version())
        return 0
    if options.command is None:
        parser.print_help()
        return 0
    output.require_output()
    if options.command == "audit":
        return audit.main(options)
    _sys.signals.prepare()
    try:
        if options.command == "demo":
            from . import demo  # noqa: PLC0415 -- only one command is run

            return demo.main()
        from . import doctor  # noqa: PLC0415 -- only one command is run

        return doctor.main(options.json)
    except (OSError, subprocess.SubprocessError) as error:  # no room for a file, no network, ...
        return output.fail(options.command, str(error))
