"""Compiled loops are compiled anew when anything that they are made of changes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CACHE = "import host, os; print(os.environ['NUMBA_CACHE_DIR'])"


@pytest.fixture
def tree(tmp_path):
    """A copy of the sources."""
    for package in ("hdl", "host"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def cache(tree: Path, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    command = [sys.executable, "-c", CACHE]
    done = subprocess.run(command, cwd=tree, env=clean | environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "changed", ["hdl/limits.py", "hdl/frame.py", "host/memory.py", "host/card/soft_sbe.py", "host/gateway/verdict.py"]
)
def test_a_change_of_what_loops_are_made_of_gives_another_cache(tree, changed):
    before = cache(tree)
    assert before.startswith(str(tree / "build" / "numba"))
    with (tree / changed).open("a") as file:
        file.write("# changed\n")
    assert cache(tree) != before


@pytest.mark.parametrize("changed", ["host/cli.py", "hdl/fix_parser.py", "host/playback/report.py"])
def test_a_change_of_anything_else_does_not(tree, changed):
    before = cache(tree)
    with (tree / changed).open("a") as file:
        file.write("# changed\n")
    assert cache(tree) == before


def test_a_cache_that_the_user_chose_is_kept(tree):
    assert cache(tree, NUMBA_CACHE_DIR="/somewhere") == "/somewhere"
