"""PayloadStore: each beat goes to its parser once, behind what its flow had, and its bytes stay until they are released."""

from amaranth.hdl import Array, Module, Signal

from formal.specification import Method, Proof, Specification, taken, waits_unchanged
from hdl.beat import LANES, POSITION_BITS, PayloadBeat
from hdl.flow import Parser
from hdl.limits import FLOWS, STORE_BYTES
from hdl.payload_store import PayloadStore


class Packets(Specification):
    """A store to which packets of any flows come, beat by beat, each to one parser."""

    def state(self, m: Module) -> None:
        store = self.add(m, "store", PayloadStore())
        beat = store.i.payload
        within, flow, parser = Signal(), Signal.like(beat.flow), Signal(Parser)
        with m.If(taken(store.i)):
            m.d.sync += [within.eq(~beat.last), flow.eq(beat.flow), parser.eq(beat.parser)]
        full, gap = beat.count == LANES, beat.gap & ~beat.last & (beat.count == 0)
        m.d.comb += [
            self.assume(waits_unchanged(m, store.i, "i")),
            self.assume((full & ~beat.gap) | gap | (beat.last & ~beat.gap & (beat.count < LANES))),
            self.assume((beat.parser == Parser.FIX) | (beat.parser == Parser.SBE)),
            self.assume(~within | ((beat.flow == flow) & (beat.parser == parser))),
        ]
        self.claim(m, store, within)

    def claim(self, m: Module, store: PayloadStore, within) -> None:
        """Assert a property of ``store``; ``within`` says that the beat offered is not a packet's first."""
        raise NotImplementedError


class Waits(Packets):
    """What is offered to a parser, or as the packet's turn, stays as it is until it is taken.

    Assumed: a release goes forward, and not beyond what was written. So room that there is stays.
    """

    def claim(self, m, store, within):
        beat = store.i.payload
        written, released = (
            Array(Signal(POSITION_BITS, name=f"{name}{n}") for n in range(FLOWS)) for name in ("written", "released")
        )
        flow, position = store.release.flow, store.release.position
        forward = (position - released[flow])[:POSITION_BITS]
        m.d.comb += self.assume(~store.releases | (forward <= (written[flow] - released[flow])[:POSITION_BITS]))
        with m.If(store.releases):
            m.d.sync += released[flow].eq(position)
        with m.If(taken(store.i)):
            m.d.sync += written[beat.flow].eq(written[beat.flow] + beat.count)
        for name in ("fix", "sbe", "order"):
            m.d.comb += self.prove(waits_unchanged(m, getattr(store, name), name))


class EachBeatOnce(Packets):
    """The last beat that was taken for a parser, or none where that was handed over, is what the parser is offered."""

    def claim(self, m, store, within):
        beat = store.i.payload
        positions = Array(Signal(POSITION_BITS, name=f"position{n}") for n in range(FLOWS))
        with m.If(taken(store.i)):
            m.d.sync += positions[beat.flow].eq(positions[beat.flow] + beat.count)
        for parser, output in ((Parser.FIX, store.fix), (Parser.SBE, store.sbe)):
            due, last = Signal(name=f"due_{parser.name}"), Signal(PayloadBeat, name=f"last_{parser.name}")
            with m.If(taken(store.i) & (beat.parser == parser)):
                m.d.sync += [
                    due.eq(1),
                    *(last[name].eq(beat[name]) for name, _ in PayloadBeat if name != "position"),
                    last.position.eq(positions[beat.flow]),
                ]
                m.d.comb += self.prove(~due | output.ready)
            with m.Elif(output.ready):
                m.d.sync += due.eq(0)
            m.d.comb += [self.prove(output.valid == due), self.prove(~due | (output.payload == last))]


class TurnOfEachPacket(Packets):
    """``order`` has one item a packet, its parser, taken with the packet's first beat."""

    def claim(self, m, store, within):
        first = taken(store.i) & ~within
        m.d.comb += [
            self.prove(taken(store.order) == first),
            self.prove(~first | (store.order.payload == store.i.payload.parser)),
        ]


class BytesStay(Packets):
    """A byte of a flow, any one, reads back until the flow has released it.

    Assumed: a release goes forward, and not beyond what was written.
    """

    def claim(self, m, store, within):
        beat = store.i.payload
        flow = self.constant(m, range(FLOWS), "flow")
        place = self.constant(m, range(4 * STORE_BYTES), "place")
        written, released = Signal(POSITION_BITS), Signal(POSITION_BITS)
        there, byte = Signal(), Signal(8)
        release = store.releases & (store.release.flow == flow)
        forward = (store.release.position - released)[:POSITION_BITS]
        m.d.comb += self.assume(~release | (forward <= (written - released)[:POSITION_BITS]))
        with m.If(release):
            m.d.sync += released.eq(store.release.position)
            with m.If((place - released)[:POSITION_BITS] < forward):
                m.d.sync += there.eq(0)
        with m.If(taken(store.i) & (beat.flow == flow)):
            m.d.sync += written.eq(written + beat.count)
            for lane in range(LANES):
                with m.If((place == (written + lane)[:POSITION_BITS]) & (lane < beat.count)):
                    m.d.sync += [there.eq(1), byte.eq(beat.data[lane])]

        rows = STORE_BYTES // LANES
        asked = Signal()
        m.d.sync += asked.eq(
            (store.read_address.flow == flow) & (store.read_address.row == (place >> 3) % rows) & there & ~(release)
        )
        with m.If(asked):
            m.d.comb += self.prove(Array(store.read_data[n] for n in range(LANES))[place[:3]] == byte)


PROOFS = (
    Proof("store_waits", "PayloadStore", "a beat that waits does not change", Waits, Method.BOUNDED, 8),
    Proof("store_once", "PayloadStore", "each beat goes to its parser once, in order", EachBeatOnce, Method.PDR, 0),
    Proof("store_turn", "PayloadStore", "one turn a packet, that of its parser", TurnOfEachPacket, Method.PDR, 0),
    Proof("store_bytes", "PayloadStore", "bytes stay until they are released", BytesStay, Method.BOUNDED, 6),
)
