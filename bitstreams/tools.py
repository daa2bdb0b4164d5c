"""Calls yosys and nextpnr."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from sim import toolchain

WEBASSEMBLY = "yowasp-"
"""How the names of tools begin that were compiled to WebAssembly; native ones can stand in for them."""

SETUP = "./setup.sh boards installs it"


class ToolFailed(Exception):
    """A tool ended in an error, or without saying anything. The text is one line and names the log."""


def name(variable: str) -> str:
    """The program that a variable of sim/toolchain.py stands for."""
    return toolchain.environment()[variable]


def missing(variables: Sequence[str]) -> str:
    """Which tools of ``variables`` (as in sim/toolchain.py) are not there, in words; empty when all are."""
    environment = toolchain.environment()
    absent = [environment[name] for name in variables if not _found(environment, name)]
    return f"{', '.join(absent)} not found: {SETUP}" if absent else ""


def _found(environment: dict[str, str], variable: str) -> str | None:
    return shutil.which(environment[variable], path=environment["PATH"])


@functools.cache
def version(variable: str) -> str:
    """A tool's name and version."""
    program = name(variable)
    if program.startswith(WEBASSEMBLY):
        return f"{program} {metadata.version(program)}"
    environment = toolchain.environment()
    option = "-V" if variable == "YOSYS" else "--version"
    ran = subprocess.run([program, option], env=environment, capture_output=True, text=True, check=True)
    return (ran.stdout + ran.stderr).strip().splitlines()[-1]


def compiles_first(variable: str) -> bool:
    """Whether the tool is WebAssembly that was not compiled on this machine yet."""
    program = name(variable)
    if not program.startswith(WEBASSEMBLY):
        return False
    import platformdirs

    default = platformdirs.user_cache_dir("YoWASP", appauthor=False)
    cache = Path(os.environ.get("YOWASP_CACHE_DIR", default), program.replace("-", "_"))
    return not any(file.is_file() for file in cache.rglob("*"))


def run(variable: str, arguments: Sequence[str], folder: Path) -> str:
    """Run a tool in ``folder``; returns why it failed in a line, empty where it did not. It must write a log by itself.

    It gets no standard output: yosys as WebAssembly stops in the middle of abc9 without a word when that
    is a file or a pipe.
    """
    environment = toolchain.environment()
    quiet = subprocess.DEVNULL
    command = [environment[variable], *arguments]
    with tempfile.TemporaryFile("w+") as errors:
        ran = subprocess.run(
            command, cwd=folder, env=environment, stdin=quiet, stdout=quiet, stderr=errors, check=False
        )
        errors.seek(0)
        said = [line.strip() for line in errors if line.strip()]
    if ran.returncode == 0:
        return ""
    named = [line for line in said if line.startswith("ERROR")] or said
    return named[-1] if named else f"exit code {ran.returncode}"
