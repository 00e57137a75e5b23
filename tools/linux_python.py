"""Pythons and C libraries that this machine does not have, from packages of the registries only.

    python tools/linux_python.py build BED FOLDER
    python tools/linux_python.py run BED FOLDER ARGUMENTS…
    python tools/linux_python.py test BED FOLDER PYTEST-ARGUMENTS…

A bed (see `BEDS`) is one Python and the C library that it runs on, in a folder of its own. `build`
assembles it, once, in a minute at most. `run` runs it. `test` installs the working directory's
noinherit into it and runs pytest. Nothing is installed on the machine; root is not needed.

The interpreter and its extension modules come from one of two places. PyPI's freeze-core has wheels
that carry a whole CPython as one program without a ``main``, which ten lines of C add. Debian's
packages have a newer suite's interpreter, with every library that it needs. The pure part of the
standard library, its tests and the C library are Debian's, from whichever mirror this machine uses.
patchelf makes the program use the C library beside it; programs that the tests start use the
machine's.

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
RECIPE = "4"
CARRIER = "freeze-core==0.8.1"
# hypothesis: later ones are half Rust, and there is no wheel of them for these Pythons.
TOOLS = [
    *("pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "hypothesis==6.155.7"),
    *("gunicorn>=22", "uvicorn>=0.30"),
]
DEBIAN_SITE = "python3/dist-packages"
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
    suite: str  # of Debian, for the standard library
    wheel: str = ""  # the platform of freeze-core's wheel; if empty, the suite's own interpreter
    libc: str = ""  # "musl", or the suite that the glibc is from; if empty, the machine's own
    implementation: str = "python"
    lender: str = ""  # the suite whose PyPy lends its subprocess.py, if the library's is too old

    @property
    def version(self) -> str:
        """Return the version as the wheel and Debian's packages spell it."""
        return self.tag.rstrip("t")

    @property
    def packages(self) -> dict[str, list[str]]:
        """Return the packages to download, by suite."""
        if self.implementation == "pypy":
            library = ["pypy3", "pypy3-lib-testsuite"]
        else:
            # The minimal package has the modules that a start needs.
            parts = ["minimal", "stdlib", "testsuite"]
            library = [f"libpython{self.version}-{part}" for part in parts]
        packages = {self.suite: library}
        if self.libc == "musl":
            library += ["musl", "src:zlib"]
        elif self.libc:
            packages.setdefault(self.libc, []).extend(["libc6", "zlib1g"])
        if self.lender:
            packages[self.lender] = ["pypy3-lib"]
        return packages


BEDS = {
    # CPython, free-threaded.
    "free314": Bed("3.14t", "sid", "manylinux2014_x86_64"),
    "free315": Bed("3.15t", "sid", "manylinux2014_x86_64"),
    # CPython on musl, as in Alpine.
    "musl315": Bed("3.15", "sid", "musllinux_1_2_x86_64", "musl"),
    # CPython on bullseye's glibc 2.31, whose posix_spawn cannot close a range of descriptors.
    "glibc231": Bed("3.11", "bookworm", "manylinux2014_x86_64", "bullseye", lender="sid"),
    # Debian sid's own CPython and PyPy, on its own glibc and libffi, the newest.
    "sid314": Bed("3.14", "sid", libc="sid"),
    "sid315": Bed("3.15", "sid", libc="sid"),
    "sidpypy": Bed("3.11", "sid", libc="sid", implementation="pypy"),
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


def download(suite: str, packages: list[str], into: Path, *, complete: bool) -> None:
    """Download packages of a Debian suite, or the upstream source of those named ``src:…``.

    If `complete`, also every package that they depend on. All are extracted into ``root`` below
    `into`. apt keeps what it knows of the suite below `into`, not with what this machine knows.
    """
    into.mkdir()
    sources = into / "sources.list"
    address = f"[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror()} {suite} main"
    sources.write_text(f"deb {address}\ndeb-src {address}\n")
    for name in ("lists", "cache/archives"):
        (into / name / "partial").mkdir(parents=True)
    (into / "status").touch()  # nothing is installed
    options = {
        "Dir::State::Lists": into / "lists",
        "Dir::State::Status": into / "status",
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Cache": into / "cache",
        "Acquire::Languages": "none",
        # A mirror that stands still is good enough.
        "Acquire::Check-Valid-Until": "false",
        # Else also those that dpkg is told of, which may change while this runs.
        "APT::Architectures": "amd64",
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
    }
    apt = ["apt-get", "--quiet=2", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], cwd=into, check=True)
    if complete:
        command = ["install", "--yes", "--download-only"]
        subprocess.run([*apt, *command, *packages], cwd=into, check=True, stdout=subprocess.DEVNULL)
    else:
        for package in packages:
            kind, _, name = package.rpartition(":")
            command = ["source", "--tar-only", "--download-only"] if kind == "src" else ["download"]
            subprocess.run([*apt, *command, name], cwd=into, check=True, stdout=subprocess.DEVNULL)
    for archive in into.rglob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", archive, into / "root"], check=True)


class LinuxPython:
    """One bed in its folder."""

    def __init__(self, bed: Bed, folder: Path) -> None:
        self.bed = bed
        self.folder = folder.resolve()
        self.lib = self.folder / "lib"
        name = f"{bed.implementation}{bed.tag}"
        self.library = self.lib / name
        self.program = self.folder / "bin" / name
        # Debian's own interpreters look elsewhere for what is installed.
        self.site = self.library / "site-packages" if bed.wheel else self.lib / DEBIAN_SITE

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
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            for suite, packages in self.bed.packages.items():
                # Only the suite that the C library is from has to give every library as well.
                download(suite, packages, scratch / suite, complete=suite == self.bed.libc)
            self._library(scratch)
            if self.bed.wheel:
                self._carried(scratch)
            else:
                self._debian(scratch / self.bed.suite / "root")
            if self.bed.libc == "musl":
                self._musl(scratch / self.bed.suite)
            elif self.bed.libc:
                self._glibc(scratch / self.bed.libc / "root")
            # The program and all that it loads look for libraries there first, whole path and all:
            # $ORIGIN is nothing to a program with more rights than its starter.
            self._patch("--force-rpath", "--set-rpath", self.lib)
        for name in ("python3", "python"):
            (self.program.parent / name).symlink_to(self.program.name)
        self._install(*TOOLS)
        if self.run("-c", "import ctypes, socket, ssl, pytest, hypothesis"):
            raise SystemExit("The Python that was built does not start.")
        stamp.write_text(recipe)

    def install(self, tree: Path) -> None:
        """Install the noinherit of `tree`: children of the tests import it, isolated ones too."""
        self._install("--no-deps", "--upgrade", tree)

    def _install(self, *arguments: str | Path) -> None:
        self._pip("install", "--target", self.site, *arguments)
        # pip puts programs where nobody looks, and has its own Python run them.
        for script in (self.site / "bin").iterdir():
            program = self.program.parent / script.name
            program.write_text(script.read_text().replace(sys.executable, str(self.program)))
            program.chmod(0o755)

    def _pip(self, command: str, *arguments: str | Path) -> None:
        quiet = ("--quiet", "--disable-pip-version-check")
        subprocess.run([sys.executable, "-m", "pip", command, *quiet, *arguments], check=True)

    def _library(self, scratch: Path) -> None:
        root = scratch / self.bed.suite / "root"
        # sitecustomize.py is a link to a file of Debian's that is not there.
        omitted = ["config-*", "sitecustomize.py", *(["lib-dynload"] if self.bed.wheel else [])]
        shutil.copytree(
            root / "usr" / "lib" / f"{self.bed.implementation}{self.bed.version}",
            self.library,
            ignore=shutil.ignore_patterns(*omitted),
        )
        if self.bed.lender:
            # The wheel's interpreter is 3.11.17, Debian's library is 3.11.2, whose subprocess names
            # the wrong file after a failed chdir. PyPy has 3.11.17's, changed only for Windows
            # and for its own garbage collector.
            lent = scratch / self.bed.lender / "root" / "usr" / "lib" / f"pypy{self.bed.version}"
            shutil.copy(lent / "subprocess.py", self.library)

    def _debian(self, root: Path) -> None:
        """Take the suite's own interpreter."""
        name = "pypy3" if self.bed.implementation == "pypy" else self.program.name
        shutil.copy(root / "usr" / "bin" / name, self.program)

    def _carried(self, scratch: Path) -> None:
        """Take the interpreter that freeze-core carries."""
        # What sysconfig reads is named for the build. Debian's does, but for the missing GIL.
        (facts,) = self.library.glob("_sysconfigdata__linux_*.py")
        flags = self.bed.tag.removeprefix(self.bed.version)
        libc = "musl" if self.bed.libc == "musl" else "gnu"
        name = f"_sysconfigdata_{flags}_linux_x86_64-linux-{libc}.py"
        text = facts.read_text() + f"build_time_vars['Py_GIL_DISABLED'] = {int(flags == 't')}\n"
        (self.library / name).write_text(text)

        tag = self.bed.tag.replace(".", "")
        self._pip(
            *("download", "--no-deps", "--only-binary=:all:", "--implementation", "cp"),
            *("--abi", f"cp{tag}", "--platform", self.bed.wheel),
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
        self._main(scratch)

    def _main(self, scratch: Path) -> None:
        source = scratch / "main.c"
        source.write_text(MAIN)
        compiler = "musl-gcc" if self.bed.libc == "musl" else "cc"
        target = self.lib / "libmain.so"
        flags = ["-shared", "-fPIC", "-O2", "-nostdlib"]
        subprocess.run([compiler, *flags, "-o", target, source], check=True)
        self._patch("--add-needed", target.name)

    def _musl(self, folder: Path) -> None:
        """Put musl beside the program, and the one library that the wheel expects of Alpine."""
        loader = self.lib / "libc.so"
        shutil.copy(folder / "root" / "usr" / "lib" / "x86_64-linux-musl" / "libc.so", loader)
        loader.chmod(0o755)
        self._patch("--set-interpreter", loader)
        (source,) = folder.glob("zlib_*.orig.tar.gz")
        with tarfile.open(source) as archive:
            archive.extractall(folder / "zlib", filter="data")
        files = sorted((folder / "zlib").glob("*/*.c"))
        library = self.lib / "libz.so.1"
        subprocess.run(
            ["musl-gcc", "-shared", "-fPIC", "-O2", "-DHAVE_UNISTD_H", "-o", library, *files],
            check=True,
        )

    def _glibc(self, root: Path) -> None:
        """Put the suite's glibc beside the program, and all libraries that came with it."""
        for name in ("lib", "usr/lib"):
            for file in (root / name / "x86_64-linux-gnu").glob("*.so*"):
                shutil.copy(file, self.lib)
        self._patch("--set-interpreter", self.lib / "ld-linux-x86-64.so.2")

    def _patch(self, *change: str | Path) -> None:
        # One change at a time: patchelf 0.14 takes one's value for another's.
        subprocess.run(["patchelf", *change, self.program], check=True)


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
