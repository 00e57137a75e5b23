"""Build the wheel and the sdist, and try both without the source tree.

``python tools/package.py DIRECTORY`` checks the metadata of both, installs each in a fresh virtual
environment, and has `noinherit doctor` start a child there. The wheel, which was built from the
sdist, also runs test_spawn.py, from a copy that has no ``src`` beside it; tox runs all the others
on a wheel. What follows the directory is for pytest.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
# What tools/build_hook.py makes.
MADE = {
    "share/man/man1/noinherit.1",
    "share/bash-completion/completions/noinherit",
    "share/zsh/site-functions/_noinherit",
    "share/fish/vendor_completions.d/noinherit.fish",
}


def run(*args: object, cwd: Path) -> None:
    """Show and run `args`."""
    print("+", *args, flush=True)
    subprocess.run([str(arg) for arg in args], cwd=cwd, check=True)


def check_contents(wheel: Path, sdist: Path) -> None:
    """Both have what git has of the package; the wheel also what is made from its parsers."""
    listed = subprocess.run(
        ["git", "ls-files", "src"],
        cwd=TREE,
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = set(listed.stdout.split())
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
        made = {name for name in names if ".data/data/" in name}
        for name in made:
            assert b"listen" in packed.read(name), f"{name}: options are missing"
    assert {f"src/{name}" for name in names - made} == wanted, sorted(names)
    assert {name.partition(".data/data/")[2] for name in made} == MADE, sorted(made)
    with tarfile.open(sdist) as packed_source:
        inside = {name.partition("/")[2] for name in packed_source.getnames()}
    assert wanted <= inside, sorted(wanted - inside)
    assert "LICENSE" in inside


def main() -> None:
    """Do what this program is for."""
    scratch = Path(sys.argv[1]).resolve()
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    dist = scratch / "dist"
    run(sys.executable, "-m", "build", "--outdir", dist, cwd=TREE)
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=scratch)
    check_contents(wheel, sdist)
    # Nothing of it is found but what is installed: the copy has no src, and is not the tree.
    copy = scratch / "copy"
    copy.mkdir()
    for name in ("tests", "examples"):
        shutil.copytree(TREE / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TREE / "pyproject.toml", copy)
    for package in (wheel, sdist):
        home = scratch / f"venv-{package.suffix[1:]}"
        venv.create(home, with_pip=True)
        (python,) = (path for path in home.glob("*/python*") if path.stem == "python")
        run(python, "-m", "pip", "install", "--quiet", package, cwd=scratch)
        where = "import noinherit, sys; assert noinherit.__file__.startswith(sys.prefix)"
        run(python, "-c", where, cwd=scratch)
        run(python, "-m", "noinherit", "doctor", cwd=scratch)
        # Until here, it has needed nothing but itself.
        if package is wheel:
            tools = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "uvloop")
            run(python, "-m", "pip", "install", "--quiet", *tools, cwd=scratch)
            chosen = sys.argv[2:] or ["tests/test_spawn.py"]
            run(python, "-m", "pytest", "-q", "-n", "2", *chosen, cwd=copy)


if __name__ == "__main__":
    main()
