"""A parent ended in the middle of a spawn: no helper outlives it, no child has too little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from probe import identity
from support import HELPERS, meanwhile

SPAWNING = """
import itertools, os, subprocess, sys, threading
sys.path.insert(0, sys.argv[1])
import noinherit
from noinherit import _sys
from support import PROBE
files = [os.open(path, os.O_RDWR) for path in sys.argv[2:]]
def work():
    while True:
        fds = {7: files[0], "a": files[1], 30: files[2]}
        noinherit.spawn_with(PROBE, fds=fds, stdin=subprocess.DEVNULL).wait()
print(_sys.backend.helper_parent().pid if sys.platform == "win32" else 0, flush=True)
for _ in range(4): threading.Thread(target=work).start()
"""
END = b"the end\n"

if sys.platform == "win32":
    from orphans import Watched, let_children_run

    def _let_all_end(parent: int, helper: Watched, ours: BinaryIO) -> None:
        try:
            assert helper.ends(10)
            let_children_run(parent, helper.pid)
        finally:
            helper.close()
            # Under Wine, a process whose creator was ended before it had a thread is never
            # forgotten, nor is what it was to be given: the pipe does not end by itself.
            ours.write(END)

else:
    Watched = int  # there is no helper

    def _let_all_end(parent: int, helper: int, ours: BinaryIO) -> None:
        ours.close()  # the end comes when the last child has let go of the pipe


def _until_the_end(reports: BinaryIO) -> Iterator[bytes]:
    for line in reports:
        if line == END:
            return
        yield line


@pytest.mark.parametrize("patience", [0.05, 0.2, 0.4])
def test_a_killed_parent_leaves_only_exact_children(patience: float, tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(3)]
    must = {}
    for file, number in zip(files, ("7", "3", "30"), strict=True):
        file.touch()
        fd = os.open(file, os.O_RDONLY)
        must[number] = identity(fd)
        os.close(fd)
    reader, writer = os.pipe()
    args = [sys.executable, "-c", SPAWNING, HELPERS, *map(str, files)]
    with (
        open(reader, "rb") as reports,
        open(writer, "wb", buffering=0) as ours,
        subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=ours) as parent,
    ):
        helper = Watched(int(reports.readline()))
        lines = [reports.readline()]  # by now it is in the midst of it
        with meanwhile(lambda: lines.extend(_until_the_end(reports))):
            time.sleep(patience)
            parent.kill()
            parent.wait()
            _let_all_end(parent.pid, helper, ours)
    for line in lines:
        fds = json.loads(line)["fds"]
        assert {number: who for number, who in fds.items() if int(number) > 2} == must
