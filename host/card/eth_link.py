"""The host's end of the Ethernet link: frames down, and lines that come up at line rate and are not sent twice (docs/eth.md)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from hdl.ethernet_frame import (
    BROADCAST,
    DOWN_HEADER,
    ETHERTYPE,
    FRAME_WINDOW,
    MAC_BYTES,
    REGISTER_BODY,
    UP_HEADER,
)
from hdl.link_frame import Down, pack
from hdl.mac import SHORTEST_PACKET
from host.card import eth_lines as lines
from host.card.link_session import PACKET_COUNT, SEQUENCE, LinkCounts, LinkError, LinkSession, Numbered, Status
from host.card.packet_ring import Interface, PacketRing
from host.card.ring import Ring

SILENCE_S = 0.1
"""A board that says nothing for so long is asked again: on an idle machine it answers within a ms, on a busy one later."""

ANSWER_S = 4.0
"""A board that says nothing for so long, asked again and again, is not there."""

COUNT_16 = 1 << UP_HEADER["lost"]


@dataclass
class EthCounts(LinkCounts):
    """What did not go smoothly. Lines that were lost are GAP frames in the ring; packets that were lost on their way to the card are what they are
    on any wire."""

    missed: int = field(default=0, metadata={"text": "lines were lost"})
    repeated: int = field(default=0, metadata={"text": "frames of the board came again"})
    gaps: int = field(default=0, metadata={"text": "frames are gaps"})
    lost: int = field(default=0, metadata={"text": "packets came damaged to the board"})
    overflow: int = field(default=0, metadata={"text": "packets found no room on the board"})
    kernel: int = field(default=0, metadata={"text": "frames were dropped by this machine, which read too slowly"})


class EthLink(LinkSession):
    """A session with the board at ``interface``, whose lines go into ``ring``. The board's MAC address is ``board``, or that of the one which answers.

    ``traffic`` is where MARKs go: the interface by which packets go to the card. Raises :class:`LinkError` where there is no interface, no answer, or
    another board than the one that the session began with.
    """

    counts: EthCounts

    def __init__(self, interface: Interface, traffic: Interface, board: bytes | None, ring: Ring) -> None:
        super().__init__(EthCounts(), REGISTER_BODY, FRAME_WINDOW, SILENCE_S, ANSWER_S)
        self._interface = interface
        self._traffic = traffic
        self._board = board or BROADCAST.to_bytes(MAC_BYTES, "big")
        self._marked = 0
        self._state = lines.new_state(self._session, ring)
        self._frames, self._payload = ring.frame_bytes.ctypes.data, ring.payload.ctypes.data
        # As the board counted them last, modulo 2^16; it may have counted before this session.
        self._lost: int | None = None
        self._overflow: int | None = None
        self._packets = PacketRing(interface)
        # Compiled, or loaded, now and not when the first frame comes.
        self._take()
        self._begin()

    def mark(self, number: int) -> None:
        """Have ``finished`` become ``number`` once the packets that were sent until now are done."""
        self._marked = number
        self._send_mark()

    def close(self) -> None:
        """See :meth:`LinkSession.close`."""
        self._packets.close()
        self._interface.close()
        if self._traffic is not self._interface:
            self._traffic.close()

    def _receive(self) -> None:
        if not self._take():
            self._packets.wait()
            self._take()

    def _take(self) -> bool:
        """Take what is there; whether anything was."""
        state, packets = self._state, self._packets
        heard, foreign = int(state[lines.HEARD]), int(state[lines.FOREIGN])
        result = lines.take_blocks(packets.words, packets.block_bytes, state, self._frames, self._payload)
        if result == lines.OUTSIDE:
            raise LinkError("the board wrote outside the ring")
        if result == lines.OUT_OF_ORDER:
            raise LinkError("the board's frames do not follow one another: is there another board with this address?")
        if state[lines.FOREIGN] != foreign and self._is_open:
            self._heard_of(0)
        if state[lines.HEARD] == heard:
            return False
        self._heard_of(self._session)
        self._take_state()
        return True

    def _take_state(self) -> None:
        state, counts = self._state, self.counts
        self._board = int(state[lines.BOARD]).to_bytes(MAC_BYTES, "little")
        self._lines = int(state[lines.LINES])
        self._take_acknowledged(int(state[lines.ACKNOWLEDGED]))
        self._take_status(
            Status(
                int(state[lines.FOLLOWING]),
                int(state[lines.ACKNOWLEDGED]),
                int(state[lines.FINISHED]),
                int(state[lines.STALLED]),
                int(state[lines.DROPPED]),
                int(state[lines.READS]),
                int(state[lines.VALUE]) % (1 << 64),
            )
        )
        self.finished += (self._status.finished - self.finished) % PACKET_COUNT
        counts.missed, counts.repeated, counts.gaps = (
            int(state[place]) for place in (lines.MISSED, lines.REPEATED, lines.GAPS)
        )

        lost, overflow = int(state[lines.LOST]), int(state[lines.OVERFLOW])
        if self._lost is not None and self._overflow is not None:
            counts.lost += (lost - self._lost) % COUNT_16
            counts.overflow += (overflow - self._overflow) % COUNT_16
        self._lost, self._overflow = lost, overflow

    def _nudge(self) -> None:
        super()._nudge()
        self.counts.kernel += self._packets.dropped()
        if self.finished != self._marked:
            self._send_mark()

    def _send_mark(self) -> None:
        self._traffic.send(self._frame(0, Down.MARK, pack(REGISTER_BODY, value=self._marked % PACKET_COUNT)))

    def _transmit(self, frames: Sequence[Numbered]) -> None:
        for number, kind, body in frames:
            self._interface.send(self._frame(number, kind, body))

    def _frame(self, number: int, kind: int, body: bytes) -> bytes:
        header = pack(DOWN_HEADER, kind=kind, sequence=number % SEQUENCE, session=self._session)
        ethernet = self._board + self._interface.address + ETHERTYPE.to_bytes(2, "big")
        return (ethernet + header + body).ljust(SHORTEST_PACKET, b"\0")

    def _open_body(self) -> bytes:
        return pack(REGISTER_BODY, address=int(self._state[lines.PAYLOAD_LINE]), value=time.time_ns())

    def _no_answer(self) -> str:
        return f"no answer from a board at {self._interface.name}: is it the board's port, is the card flashed, is the link at 1 Gb/s?"
