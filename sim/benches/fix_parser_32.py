"""Bench of hdl/fix_parser.py with four bytes a beat: the tests of fix_parser.py."""

from amaranth.lib import wiring

from hdl.fix_parser import FixParser
from sim.benches.fix_parser import *  # noqa: F403


def component() -> wiring.Component:
    return FixParser(data_width=32)
