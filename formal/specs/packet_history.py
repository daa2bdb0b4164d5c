"""PacketHistory: what came of a packet stands where it is looked for, until it is not needed any more."""

from amaranth.hdl import Array, Module, Mux, Signal

from formal.specification import Method, Proof, Specification, taken
from hdl.beat import LANES
from hdl.limits import PACKET_LIMIT
from hdl.packet_history import LANE_BITS, PLACE_BITS, PacketHistory

ROWS = 16
LOOKS = 2
"""For so many cycles behind a ``seek`` what is found is looked at: a longer wait changes no register of a port."""


class Packets(Specification):
    """A history through which packets go. One place is watched: its byte is that of the beat with which it came.

    What is needed may go anywhere, also back; what was not needed once may be gone. Once nothing is, nothing that still comes is.
    """

    def state(self, m: Module) -> None:
        # The port looks at the watched place in every cycle, so that memory's content is known where it counts: that is inductive.
        history = self.add(m, "history", PacketHistory(ROWS, [1]))
        beat = history.i.payload
        place = self.constant(m, PLACE_BITS, "place")
        watches = Signal()
        m.d.sync += watches.eq(1)
        m.d.comb += [
            self.assume(history.place0 == place[: history.place_bits]),
            self.assume(history.seek0),
            self.assume((beat.count == LANES) | beat.last),
            self.assume(beat.count <= LANES),
        ]

        came, whole, least, dropped = Signal(PLACE_BITS), Signal(), Signal(PLACE_BITS), Signal()
        there, byte = Signal(), Signal(8)
        m.d.comb += [
            self.assume(came + beat.count <= PACKET_LIMIT),
            self.assume(~dropped | history.unneeded | whole),
            self.assume(~history.next_packet | whole),
            self.prove(history.available == came),
            self.prove(history.ended == whole),
            self.prove(whole | (came % LANES == 0)),
            self.prove(~(taken(history.i) & whole)),
            self.prove(history.coming == Mux(taken(history.i), beat.count, 0)),
        ]
        m.d.sync += [
            least.eq(Mux(history.needed > least, history.needed, least)),
            dropped.eq(dropped | history.unneeded),
        ]
        with m.If(taken(history.i)):
            m.d.sync += [came.eq(came + beat.count), whole.eq(beat.last)]
            for lane in range(LANES):
                with m.If((place == came + lane) & (lane < beat.count) & (place >= least) & ~dropped):
                    m.d.sync += [there.eq(1), byte.eq(beat.data[lane])]
        with m.If((history.needed > place) | history.unneeded):
            m.d.sync += there.eq(0)
        with m.If(history.next_packet):
            m.d.sync += [came.eq(0), whole.eq(0), least.eq(0), dropped.eq(0), there.eq(0)]
        rows = (came >> LANE_BITS) - (place >> LANE_BITS)
        with m.If(there):
            m.d.comb += [
                self.prove(place < came),
                self.prove(~dropped & (least <= place)),
                self.prove(rows + (came % LANES != 0) <= ROWS),
            ]
            with m.If(watches):
                m.d.comb += self.prove(history.bytes0[0] == byte)


class Ports(Specification):
    """A port of many bytes finds behind ``seek`` what a port of one byte finds at each of these places, whatever memory holds."""

    def state(self, m: Module) -> None:
        history = self.add(m, "history", PacketHistory(ROWS, [1, LANES]))
        place, sought = Signal(history.place_bits), Signal(history.place_bits)
        looks, since = Signal(), Signal(range(LOOKS + 1))
        m.d.sync += [place.eq(history.place0), since.eq(Mux(since == LOOKS, LOOKS, since + 1))]
        with m.If(history.seek1):
            m.d.sync += [sought.eq(history.place1), looks.eq(1), since.eq(0)]
        with m.Elif(since == LOOKS):
            m.d.sync += looks.eq(0)
        apart = (place - sought)[: history.place_bits]
        m.d.comb += [
            self.assume(history.seek0),
            self.assume(history.beyond1 == (history.place1 + LANES)[: history.place_bits]),
        ]
        with m.If(looks & (apart < LANES)):
            m.d.comb += self.prove(
                Array(history.bytes1[n] for n in range(LANES))[apart[:LANE_BITS]] == history.bytes0[0]
            )


PROOFS = (
    Proof("history_keeps", "PacketHistory", "a byte that is needed is kept as it came", Packets, Method.K_INDUCTION, 6),
    Proof(
        "history_wraps", "PacketHistory", "a byte that is needed is kept, from reset on", Packets, Method.BOUNDED, 21
    ),
    Proof("history_ports", "PacketHistory", "all bytes of a port are those of its place", Ports, Method.K_INDUCTION, 4),
)
