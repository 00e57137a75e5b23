"""Pythons and C libraries that this machine does not have, from packages of the registries only.

    python tools/linux_python.py build BED FOLDER
    python tools/linux_python.py run BED FOLDER ARGUMENTS…
    python tools/linux_python.py test BED FOLDER PYTEST-ARGUMENTS…

A bed (see `BEDS`) is one Python and the C library that it runs on, in a folder of its own. `build`
assembles it, once, in seconds. `run` runs it. `test` installs the working directory's noinherit
into it and runs pytest. Nothing is installed on the machine; root is not needed.

The interpreter and its extension modules come from PyPI's freeze-core, whose wheels carry a whole
CPython as one program without a ``main``, which ten lines of C add, or from Debian's own packages.
The pure part of the standard library, its tests and the C library come from Debian's packages, of
whichever mirror this machine uses. patchelf makes the program use the C library beside it; programs
that the tests start use the machine's.

Needs apt-get, dpkg-deb, patchelf, a C compiler and, for musl, musl-gcc; says so if one is missing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

# Raise it when what `build` makes changes: older folders are then made anew.
RECIPE = "1"
CARRIER = "freeze-core==0.8.1"
# hypothesis: later ones are half Rust, and there is no wheel of them for these Pythons.
TOOLS = [
    *("pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "hypothesis==6.155.7"),
    *("gunicorn>=22", "uvicorn>=0.30"),
]
PROGRAMS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "patchelf": "patchelf",
    "cc": "gcc and libc6-dev",
    "musl-gcc": "musl-tools",
}
# The program that freeze-core carries has no main: the C library is asked to call this one.
MAIN = """
#define _GNU_SOURCE
#include <dlfcn.h>
typedef int entry(int, char **, char **);
typedef int starter(entry *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
extern int Py_BytesMain(int, char **);
static int run(int argc, char **argv, char **envp) { return Py_BytesMain(argc, argv); }
int __libc_start_main(entry *main, int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*loader)(void), void *stack) {
    starter *start = (starter *)dlsym(RTLD_NEXT, "__libc_start_main");
    return start(run, argc, argv, init, fini, loader, stack);
}
"""


@dataclass(frozen=True)
class Bed:
    """One Python and the C library that it runs on."""

    tag: str  # of the interpreter: "3.15t" is the free-threaded 3.15
    platform: str  # of freeze-core's wheel
    suite: str  # of Debian, for the standard library and the C library
    libc: str = ""  # Debian's package of the C library, if not the machine's own is meant

    @property
    def version(self) -> str:
        """Return the version as the wheel and Debian's packages spell it."""
        return self.tag.rstrip("t")


BEDS = {
    "free314": Bed("3.14t", "manylinux2014_x86_64", "sid"),
    "free315": Bed("3.15t", "manylinux2014_x86_64", "sid"),
    "musl315": Bed("3.15", "musllinux_1_2_x86_64", "sid", "musl"),
}


def check_programs() -> None:
    """End with what to install if a program is missing."""
    missing = sorted({PROGRAMS[name] for name in PROGRAMS if shutil.which(name) is None})
    if missing:
        raise SystemExit(
            f"This needs {', '.join(missing)}. On Debian: "
            f"apt-get install --no-install-recommends {' '.join(missing).replace(' and', '')}"
        )


def mirror() -> str:
    """Return the address of the Debian mirror that this machine uses."""
    sources = Path("/etc/apt")
    for file in [sources / "sources.list", *sorted(sources.glob("sources.list.d/*"))]:
        if file.is_file():
            # One line a source, or the newer form in paragraphs.
            found = re.search(
                r"^(?:deb(?: \[.*?\])? |URIs: *)(\S+/debian)/?\s", file.read_text(), re.MULTILINE
            )
            if found:
                return found[1]
    raise SystemExit("No source of Debian's packages is named in /etc/apt.")


def download(suite: str, packages: list[str], into: Path) -> None:
    """Download packages of a Debian suite, or the upstream source of those named ``src:…``.

    apt keeps what it knows of the suite below `into`, not with what this machine knows.
    """
    sources = into / "sources.list"
    address = f"[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror()} {suite} main"
    sources.write_text(f"deb {address}\ndeb-src {address}\n")
    (into / "lists" / "partial").mkdir(parents=True)
    options = {
        "Dir::State::Lists": into / "lists",
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Cache": into / "cache",
        "Acquire::Languages": "none",
        # A mirror that stands still is good enough.
        "Acquire::Check-Valid-Until": "false",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "--quiet=2", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], cwd=into, check=True)
    for package in packages:
        kind, _, name = package.rpartition(":")
        command = ["source", "--tar-only", "--download-only"] if kind == "src" else ["download"]
        subprocess.run([*apt, *command, name], cwd=into, check=True, stdout=subprocess.DEVNULL)


class LinuxPython:
    """One bed in its folder."""

    def __init__(self, bed: Bed, folder: Path) -> None:
        self.bed = bed
        self.folder = folder.resolve()
        self.lib = self.folder / "lib"
        self.library = self.lib / f"python{bed.tag}"
        self.program = self.folder / "bin" / f"python{bed.tag}"
        self.site = self.library / "site-packages"

    def run(self, *arguments: str) -> int:
        """Run the bed's Python to its end and return its exit status."""
        mine = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("VIRTUAL_ENV", "TOX_", "COVERAGE_"))
        }
        path = f"{self.program.parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            [self.program, *arguments], env=mine | {"PATH": path}, check=False
        ).returncode

    def build(self) -> None:
        """Make what is not there yet."""
        stamp = self.folder / "recipe"
        recipe = f"{RECIPE} {self.bed} {TOOLS} {self.folder}"
        if stamp.exists() and stamp.read_text() == recipe:
            return
        check_programs()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.program.parent.mkdir(parents=True)
        with tempfile.TemporaryDirectory() as scratch:
            self._library(Path(scratch))
            self._interpreter(Path(scratch))
            if self.bed.libc == "musl":
                self._musl(Path(scratch))
            self._main(Path(scratch))
        for name in ("python3", "python"):
            (self.program.parent / name).symlink_to(self.program.name)
        self._pip("install", "--target", self.site, *TOOLS)
        if self.run("-c", "import ctypes, socket, ssl, pytest, hypothesis"):
            raise SystemExit("The Python that was built does not start.")
        stamp.write_text(recipe)

    def install(self, tree: Path) -> None:
        """Install the noinherit of `tree`: children of the tests import it, isolated ones too."""
        self._pip("install", "--no-deps", "--upgrade", "--target", self.site, tree)

    def _pip(self, command: str, *arguments: str | Path) -> None:
        quiet = ("--quiet", "--disable-pip-version-check")
        subprocess.run([sys.executable, "-m", "pip", command, *quiet, *arguments], check=True)

    def _library(self, scratch: Path) -> None:
        version = self.bed.version
        # The minimal package has the modules that a start needs.
        packages = [f"libpython{version}-{part}" for part in ("minimal", "stdlib", "testsuite")]
        if self.bed.libc == "musl":
            packages += ["musl", "src:zlib"]
        download(self.bed.suite, packages, scratch)
        for package in scratch.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", package, scratch / "root"], check=True)
        shutil.copytree(
            scratch / "root" / "usr" / "lib" / f"python{version}",
            self.library,
            # sitecustomize.py is a link to a file of Debian's that is not there.
            ignore=shutil.ignore_patterns("lib-dynload", "config-*", "sitecustomize.py"),
        )

        # What sysconfig reads is named for the build. Debian's does, but for the missing GIL.
        (facts,) = self.library.glob("_sysconfigdata__linux_*.py")
        flags = self.bed.tag.removeprefix(version)
        libc = self.bed.libc or "gnu"
        name = f"_sysconfigdata_{flags}_linux_x86_64-linux-{libc}.py"
        text = facts.read_text() + f"build_time_vars['Py_GIL_DISABLED'] = {int(flags == 't')}\n"
        (self.library / name).write_text(text)

    def _interpreter(self, scratch: Path) -> None:
        tag = self.bed.tag.replace(".", "")
        self._pip(
            *("download", "--no-deps", "--only-binary=:all:", "--implementation", "cp"),
            *("--abi", f"cp{tag}", "--platform", self.bed.platform),
            *("--python-version", self.bed.version, "--dest", str(scratch), CARRIER),
        )
        (wheel,) = scratch.glob("*.whl")
        modules = self.library / "lib-dynload"
        modules.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                base = name.rpartition("/")[2]
                if f"/bases/console-cpython-{tag}-" in name:
                    self.program.write_bytes(archive.read(name))
                elif name.startswith("freeze_core/lib/") and base.endswith(".so"):
                    (modules / base).write_bytes(archive.read(name))
                elif name.startswith("freeze_core.libs/") and base:
                    # Modules look for them in one place, the program in another.
                    packed = self.lib / "freeze_core.libs"
                    packed.mkdir(exist_ok=True)
                    (packed / base).write_bytes(archive.read(name))
                    (self.lib / base).symlink_to(packed / base)
        self.program.chmod(0o755)

    def _musl(self, scratch: Path) -> None:
        """Put musl beside the program, and the one library that the wheel expects of Alpine."""
        shutil.copy(scratch / "root/usr/lib/x86_64-linux-musl/libc.so", self.lib / "libc.so")
        (source,) = scratch.glob("zlib_*.orig.tar.gz")
        with tarfile.open(source) as archive:
            archive.extractall(scratch / "zlib", filter="data")
        files = sorted((scratch / "zlib").glob("*/*.c"))
        library = self.lib / "libz.so.1"
        subprocess.run(
            ["musl-gcc", "-shared", "-fPIC", "-O2", "-DHAVE_UNISTD_H", "-o", library, *files],
            check=True,
        )

    def _main(self, scratch: Path) -> None:
        source = scratch / "main.c"
        source.write_text(MAIN)
        musl = self.bed.libc == "musl"
        compiler = "musl-gcc" if musl else "cc"
        target = self.lib / "libmain.so"
        flags = ["-shared", "-fPIC", "-O2", "-nostdlib"]
        subprocess.run([compiler, *flags, "-o", target, source], check=True)
        # One change at a time: patchelf 0.14 takes one's value for another's. The program looks for
        # libraries in ../lib already.
        subprocess.run(["patchelf", "--add-needed", target.name, self.program], check=True)
        if musl:
            loader = self.lib / "libc.so"
            loader.chmod(0o755)
            subprocess.run(["patchelf", "--set-interpreter", loader, self.program], check=True)


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("command", choices=["build", "run", "test"])
    parser.add_argument("bed", choices=list(BEDS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    python = LinuxPython(BEDS[options.bed], options.folder)
    python.build()
    if options.command == "build":
        return 0
    python.install(Path.cwd())
    if options.command == "test":
        options.arguments[:0] = ["-m", "pytest", "--noinherit=error"]
    return python.run(*options.arguments)


if __name__ == "__main__":
    sys.exit(main())
