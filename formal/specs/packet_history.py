"""PacketHistory: what came of a packet stands where it is looked for, until it is not needed any more."""

from typing import NamedTuple

from amaranth.hdl import Array, Const, Module, Mux, Signal

from formal.specification import Method, Proof, Specification, taken
from hdl.beat import LANES, POSITION_BITS
from hdl.limits import PACKET_LIMIT
from hdl.packet_history import LANE_BITS, PacketHistory

ROWS = 16
LOOKS = 2
"""For so many cycles behind a ``seek`` what is found is looked at: a longer wait changes no register of a port."""


class Came(NamedTuple):
    """What came of a packet: so many ``bytes_``, and, of it all, whether it is ``whole``; the watched ``byte``, if it is ``there``."""

    bytes_: Signal
    whole: Signal
    there: Signal
    byte: Signal
    position: Signal

    @classmethod
    def of(cls, name: str):
        return cls(
            Signal(PACKET_LIMIT.bit_length(), name=f"bytes_{name}"),
            Signal(name=f"whole_{name}"),
            Signal(name=f"there_{name}"),
            Signal(8, name=f"byte_{name}"),
            Signal(POSITION_BITS, name=f"position_{name}"),
        )

    def take(self, m: Module, beat, offset, keeps, before: "Came | None" = None) -> None:
        """A beat comes, behind what came ``before``; its byte counts where it ``keeps``."""
        came = (before or self).bytes_
        m.d.sync += [self.bytes_.eq(came + beat.count), self.whole.eq(beat.last)]
        with m.If(came == 0):
            m.d.sync += self.position.eq(beat.position)
        for lane in range(LANES):
            with m.If((offset == came + lane) & (lane < beat.count) & keeps):
                m.d.sync += [self.there.eq(1), self.byte.eq(beat.data[lane])]

    @property
    def rows(self):
        return (self.bytes_ + LANES - 1) >> LANE_BITS


class Packets(Specification):
    """A history through which packets go. A byte of each is watched, the same in all: it is that of the beat with which it came.

    What is needed may go anywhere, also back; what was not needed once may be gone. Once nothing is, nothing that still comes is.
    """

    def state(self, m: Module) -> None:
        # The ports look at the watched places in every cycle, so that memory's content is known where it counts, and what the
        # history counts is claimed too: that is inductive.
        history = self.add(m, "history", PacketHistory(ROWS, [1, 1]))
        beat = history.i.payload
        offset = self.constant(m, PACKET_LIMIT.bit_length(), "offset")
        place = Signal.like(history.available)
        watches = Signal()
        # In the cycle before, the first port looked at the place in this packet.
        m.d.sync += watches.eq(~history.next_packet)
        m.d.comb += [
            place.eq(history.origin + offset),
            self.assume(history.place0 == place[: history.port_bits]),
            self.assume(history.place1 == (history.next_origin + offset)[: history.port_bits]),
            self.assume(history.seek0 & history.seek1),
            self.assume((beat.count == LANES) | (beat.last & (beat.count <= LANES) & (beat.count != 0))),
        ]

        at_hand, behind = Came.of("at_hand"), Came.of("behind")
        least, dropped, already = Signal.like(place), Signal(), Signal.like(behind.bytes_)
        m.d.comb += [
            self.assume(Mux(at_hand.whole, behind.bytes_, at_hand.bytes_) + beat.count <= PACKET_LIMIT),
            self.assume(~dropped | history.unneeded | at_hand.whole),
            self.assume(~history.next_packet | at_hand.whole),
            self.prove(~(taken(history.i) & behind.whole)),
            self.prove(history.available == history.origin + at_hand.bytes_),
            self.prove(history.already == already),
            self.prove(history.ended == at_hand.whole),
            self.prove(history.coming == Mux(taken(history.i) & ~at_hand.whole, beat.count, 0)),
            self.prove(at_hand.whole | (at_hand.bytes_ % LANES == 0)),
            self.prove(behind.whole | (behind.bytes_ % LANES == 0)),
            self.prove((at_hand.bytes_ == 0) | ((history.base + history.origin)[:POSITION_BITS] == at_hand.position)),
            # What the history counts for that.
            self.prove((history.origin % LANES == 0) & (history.next_origin % LANES == 0)),
            self.prove(
                history.next_origin
                == Mux(
                    at_hand.whole, (history.origin + (at_hand.rows << LANE_BITS))[: history.port_bits], history.origin
                )
            ),
            self.prove(history.ahead == at_hand.whole),
            self.prove(history.whole == behind.whole),
            self.prove(history.bytes_ahead == behind.bytes_),
            self.prove(history.fresh == (Mux(at_hand.whole, behind.bytes_, at_hand.bytes_) == 0)),
            self.prove(
                (behind.bytes_ == 0) | ((history.base_behind + history.next_origin)[:POSITION_BITS] == behind.position)
            ),
            self.prove(
                history.filled
                == Mux(at_hand.whole, history.next_origin + behind.bytes_, history.origin + at_hand.bytes_)
            ),
            self.prove(history.rows == (history.origin >> LANE_BITS) + at_hand.rows + behind.rows),
            self.prove(history.rows_ahead == behind.rows),
            self.prove(behind.rows + history.i.ready <= ROWS // 4 * 3 + 1),
            self.prove(at_hand.whole | ((behind.bytes_ == 0) & ~behind.whole)),
        ]

        m.d.sync += [
            least.eq(Mux(history.needed > least, history.needed, least)),
            dropped.eq(dropped | history.unneeded),
        ]
        with m.If(taken(history.i)):
            with m.If(at_hand.whole):
                behind.take(m, beat, offset, Const(1))
            with m.Else():
                at_hand.take(m, beat, offset, (place >= least) & ~dropped)
        with m.If((history.needed > place) | history.unneeded):
            m.d.sync += at_hand.there.eq(0)
        with m.If(history.next_packet):
            m.d.sync += [least.eq(0), dropped.eq(0)]
            for mine, its in zip(at_hand, behind, strict=True):
                m.d.sync += [mine.eq(its), its.eq(0)]
            m.d.sync += already.eq(behind.bytes_)
            with m.If(taken(history.i)):
                at_hand.take(m, beat, offset, Const(1), behind)
                m.d.sync += already.eq(behind.bytes_ + beat.count)
        with m.If(at_hand.there):
            m.d.comb += [
                self.prove(offset < at_hand.bytes_),
                self.prove(~dropped & (least <= place)),
                self.prove(history.rows - (place >> LANE_BITS) <= ROWS),
            ]
            with m.If(watches):
                m.d.comb += self.prove(history.bytes0[0] == at_hand.byte)
        with m.If(behind.there):
            m.d.comb += self.prove(at_hand.whole & (offset < behind.bytes_))
            with m.If(watches):
                m.d.comb += self.prove(history.bytes1[0] == behind.byte)


class Ports(Specification):
    """A port of many bytes finds behind ``seek`` what a port of one byte finds at each of these places, whatever memory holds."""

    def state(self, m: Module) -> None:
        history = self.add(m, "history", PacketHistory(ROWS, [1, LANES]))
        place, sought = Signal(history.port_bits), Signal(history.port_bits)
        looks, since = Signal(), Signal(range(LOOKS + 1))
        m.d.sync += [place.eq(history.place0), since.eq(Mux(since == LOOKS, LOOKS, since + 1))]
        with m.If(history.seek1):
            m.d.sync += [sought.eq(history.place1), looks.eq(1), since.eq(0)]
        with m.Elif(since == LOOKS):
            m.d.sync += looks.eq(0)
        apart = (place - sought)[: history.port_bits]
        m.d.comb += [
            self.assume(history.seek0),
            self.assume(history.beyond1 == (history.place1 + LANES)[: history.port_bits]),
        ]
        with m.If(looks & (apart < LANES)):
            m.d.comb += self.prove(
                Array(history.bytes1[n] for n in range(LANES))[apart[:LANE_BITS]] == history.bytes0[0]
            )


PROOFS = (
    Proof("history_keeps", "PacketHistory", "a byte that is needed is kept as it came", Packets, Method.K_INDUCTION, 4),
    Proof(
        "history_wraps", "PacketHistory", "a byte that is needed is kept, from reset on", Packets, Method.BOUNDED, 19
    ),
    Proof("history_ports", "PacketHistory", "all bytes of a port are those of its place", Ports, Method.K_INDUCTION, 4),
)
