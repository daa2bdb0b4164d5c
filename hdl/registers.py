"""The card's registers (table: register_map.py)."""

from collections.abc import Collection, Mapping

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.counters import Counters, lag
from hdl.feed_arbiter import FeedRow
from hdl.flow_match import FlowRow
from hdl.limits import FLOWS
from hdl.register_map import ADDRESS, BUILT, COUNTER_BASE, COUNTERS, IDENTITY, REGISTERS, ROW_STRIDE, VERSION
from hdl.ring_writer import RingSettings

ADDRESS_BITS = max(register.address + ROW_STRIDE * register.rows for register in REGISTERS).bit_length()

RegisterBus = wiring.Signature(
    {
        "address": Out(ADDRESS_BITS),
        "write": Out(1),
        "write_data": Out(64),
        "read_data": In(64),
    }
)
"""A write takes one cycle; ``read_data`` is that of the address one cycle before. An address
without a register reads as 0."""

COUNT_BITS, WIDE_BITS = 4, 16
"""The most that a counter, or a wide one, grows in one cycle fits these bits."""

COUNTER_LAG = lag(len(COUNTERS))
"""So many cycles after something happened its counter says so."""


class Registers(wiring.Component):
    """Settings that the host writes, and counters that it reads. All 0 at reset.

    The flow table has ``flows`` rows; what is written to rows behind them is lost. ``built`` are the values of the registers
    BUILT; what is left out reads as 0. ``feeds`` is there where flows are ``arbitrated``. ``wide`` names the counters that grow
    by as much as WIDE_BITS hold. A counter reads as it was COUNTER_LAG cycles before.
    """

    def __init__(
        self,
        flows: int = FLOWS,
        built: Mapping[str, int] | None = None,
        arbitrated: bool = False,
        wide: Collection[str] = ("payload_bytes",),
    ):
        self._flows = flows
        self._arbitrated = arbitrated
        self._widths = {name: WIDE_BITS if name in wide else COUNT_BITS for name in COUNTERS}
        self._constants = {"identity": IDENTITY, "version": VERSION, **(built or {})}
        assert self._constants.keys() <= {"identity", "version", *BUILT}
        super().__init__(
            {
                "bus": In(RegisterBus),
                "flows": Out(data.ArrayLayout(FlowRow, flows)),
                **({"feeds": Out(data.ArrayLayout(FeedRow, flows))} if arbitrated else {}),
                "ring": Out(RingSettings),
                "increments": In(data.StructLayout(self._widths)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        m.submodules.counters = counters = Counters(self._widths)
        place = bus.address - COUNTER_BASE
        constant, is_counter = Signal(64), Signal()
        with m.Switch(bus.address):
            for name, value in self._constants.items():
                with m.Case(ADDRESS[name]):
                    m.d.sync += constant.eq(value)
            with m.Default():
                m.d.sync += constant.eq(0)
        m.d.comb += [
            counters.increments.eq(self.increments),
            counters.selected.eq(place),
            bus.read_data.eq(Mux(is_counter, counters.total, constant)),
        ]
        m.d.sync += is_counter.eq((place >= 0) & (place < len(COUNTERS)))

        with m.If(bus.write):
            with m.Switch(bus.address):
                for name in RingSettings.members:
                    with m.Case(ADDRESS[name]):
                        m.d.sync += self.ring[name].eq(bus.write_data)
                for n in range(self._flows):
                    flow = self.flows[n]
                    with m.Case(ADDRESS["flow_control"] + ROW_STRIDE * n):
                        m.d.sync += [flow.protocol.eq(bus.write_data[:8]), flow.parser.eq(bus.write_data[8:16])]
                        if self._arbitrated:
                            feed = self.feeds[n]
                            m.d.sync += Cat(feed.arbitrated, feed.side, feed.channel).eq(bus.write_data[16:])
                    with m.Case(ADDRESS["flow_destination"] + ROW_STRIDE * n):
                        m.d.sync += [
                            flow.destination.eq(bus.write_data[:32]),
                            flow.destination_port.eq(bus.write_data[32:48]),
                        ]
                    with m.Case(ADDRESS["flow_source"] + ROW_STRIDE * n):
                        m.d.sync += [flow.source.eq(bus.write_data[:32]), flow.source_port.eq(bus.write_data[32:48])]
        return m
