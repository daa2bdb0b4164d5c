"""Benches: one file a block, with its ``component()`` and its cocotb tests (docs/simulation.md)."""

from collections.abc import Callable
from typing import NamedTuple

CLOCK_NS = 10
"""The benches' clock period; what a design reaches on silicon is not their business."""


class Bench(NamedTuple):
    """A bench: the module with its tests, and what to build instead of that module's ``component()``."""

    module: str
    component: Callable | None = None


NAMES = (
    "fixed_point",
    "digit_serial",
    "strip",
    "ethernet",
    "tcp_sequence",
    "segments",
    "feed_arbiter",
    "payload_store",
    "beat_splitter",
    "fix_tokenizer",
    "fix_parser",
    "fix_parser_small",
    "sbe_decoder",
    "fix_entries",
    "ring_writer",
    "registers",
    "line_writer",
    "dma_pcie",
    "pcie_series7",
    "uart",
    "cobs",
    "serial_link",
    "mac",
    "ethernet_link",
    "card",
)

WIDTHS = {"fix_parser": ("fix_parser_32", "fix_parser_8")}
"""Benches that run another one's tests on other widths."""

BENCHES = {each: Bench(f"sim.benches.{each}") for name in NAMES for each in (name, *WIDTHS.get(name, ()))}
"""All benches by name: parts first, then blocks in the order in which data meets them, then the card."""
