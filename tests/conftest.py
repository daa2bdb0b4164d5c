"""What all tests share."""

import os
from pathlib import Path

import pytest

from sim import toolchain

ROOT = Path(__file__).resolve().parent.parent

# Before any test module elaborates hardware.
toolchain.apply()

# Workers of xdist are told a width, which consoles would take for good when they are made.
os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public captures and schemas beside the repository; skips where it is not there."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no captures at {folder}")
    return folder
