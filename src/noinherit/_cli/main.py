"""The ``noinherit`` command."""

from __future__ import annotations

import argparse
import errno
import os
import sys

from ..exceptions import NoinheritError
from . import audit, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_UNREAD = 128 + 13  # as a shell tells of who has ended by SIGPIPE


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
    auditor = commands.add_parser(
        "audit",
        help="what a process holds open, and what of it leaks into its children",
        description="Lists what a process holds open, and whether children inherit it.",
        epilog=audit.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    auditor.add_argument("pid", type=int, nargs="?", metavar="PID", help="process id")
    auditor.add_argument(
        "--inheritable", action="store_true", help="list only inheritable descriptors"
    )
    auditor.add_argument("--json", action="store_true", help="for programs instead of people")
    runner = commands.add_parser(
        "run",
        help="open files and ports, and start a command that holds exactly those",
        usage="noinherit run [--fd N=PATH[:MODE]] [--listen [NAME=]HOST:PORT] [--env NAME=VALUE] "
        "-- COMMAND ...",
        description="Starts COMMAND with the standard streams and what the options open, and "
        "nothing else. Options can be repeated.",
        epilog=run.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    runner.add_argument(
        "--fd",
        action="append",
        default=[],
        type=run.file_argument,
        metavar="N=PATH[:MODE]",
        help="open PATH; it is the command's descriptor N",
    )
    runner.add_argument(
        "--listen",
        action="append",
        default=[],
        type=run.listen_argument,
        metavar="[NAME=]HOST:PORT",
        help="listen there, by TCP. IPv6 is [::1]:8000; no HOST is every IPv4 address; port 0 is "
        "a free one, which is told on standard error",
    )
    runner.add_argument(
        "--env",
        action="append",
        default=[],
        type=run.variable_argument,
        metavar="NAME=VALUE",
        help="put this into the command's environment",
    )
    runner.add_argument(
        "command_line", nargs=argparse.REMAINDER, metavar="COMMAND", help="and its arguments"
    )
    runner.set_defaults(refuse=runner.error)
    tracer = commands.add_parser(
        "trace",
        help="run a Python program and see what leaks into its children, and from which line",
        description="Runs a program as python does, and tells on standard error which inheritable "
        "descriptors its children are given although nobody listed them. The exit status is the "
        "program's; 1 if that would be 0 but something leaked.",
    )
    tracer.add_argument("-m", dest="module", action="store_true", help="PROGRAM is a module's name")
    tracer.add_argument("program", metavar="PROGRAM", help="a script, or with -m a module")
    tracer.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` and return its exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        if options.command == "run":
            return run.main(options)
        if options.command == "trace":
            from . import trace  # noqa: PLC0415 -- only one command is run

            return trace.main(options.program, options.arguments, module=options.module)
        return _printed(options)
    except NoinheritError as error:
        parser.error(str(error))


def _printed(options: argparse.Namespace) -> int:
    """Run a command that prints; the status is `_UNREAD` if nobody reads all of it."""
    try:
        status = _print(options)
        print(end="", flush=True)
    except OSError as error:
        if not _is_unread(error):
            raise
        # Else the interpreter tries once more as it ends, and complains.
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123 -- no path
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return _UNREAD
    return status


def _is_unread(error: OSError) -> bool:
    # Windows' C runtime says EINVAL (https://bugs.python.org/issue35754); Win32's own has a number.
    from_runtime = error.errno == errno.EINVAL and getattr(error, "winerror", error) is None
    return from_runtime or isinstance(error, BrokenPipeError)


def _print(options: argparse.Namespace) -> int:
    if options.command == "demo":
        from . import demo  # noqa: PLC0415 -- only one command is run

        return demo.main()
    if options.command == "audit":
        return audit.main(options.pid, options.inheritable, options.json)
    from . import doctor  # noqa: PLC0415 -- likewise

    return doctor.main(options.json)
