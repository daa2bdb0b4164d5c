"""The card's way to a hard block, with frames from a source in the card's place."""

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hdl.pcie_card import PcieCard
from sim.benches.ring_source import RingSource


class Endpoint(wiring.Component):
    """``PcieCard`` behind an ``adapter``; its ports are the adapter's towards the block, and ``others``."""

    def __init__(self, adapter: wiring.Component, **others: wiring.Member) -> None:
        self._card, self._adapter = PcieCard(RingSource()), adapter
        card, block = self._card.signature.members, adapter.signature.members
        self._inside = [name for name in block if name in card]
        super().__init__({name: block[name] for name in block if name not in card} | others)

    def elaborate(self, platform):
        m = Module()
        m.submodules.card = card = self._card
        m.submodules.adapter = adapter = self._adapter
        for name, member in adapter.signature.members.items():
            if name in self._inside:
                _join(m, member, getattr(adapter, name), getattr(card, name))
            else:
                outside = getattr(self, name)
                _join(m, member, getattr(adapter, name), wiring.flipped(outside) if member.is_signature else outside)
        return m


def _join(m: Module, member: wiring.Member, one: Any, other: Any) -> None:
    """Connect a member of an interface to the same one of another."""
    if member.is_signature:
        wiring.connect(m, one, other)
    else:
        m.d.comb += one.eq(other) if member.flow == In else other.eq(one)
