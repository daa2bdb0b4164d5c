"""The ``pcie:`` card: a card in a slot of this machine, which writes the rings itself (docs/pcie.md)."""

import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hdl.flow import Flow
from hdl.limits import FLOWS
from hdl.pcie_map import (
    BOARD_BYTE,
    BOARD_FIELDS,
    LINK_FIELDS,
    PCIE_VERSION,
    PROGRESS_FIELDS,
    REGISTERS_BYTE,
    SESSION_BITS,
    WINDOW_BYTE,
    WINDOW_BYTES,
    Board,
)
from hdl.pcie_tlp import unpack
from hdl.register_map import ADDRESS, COUNTERS
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.card import CardError
from host.card.pcie_device import PcieDevice, open_device
from host.card.pcie_packets import HEADER_WORDS, pack_packets
from host.card.ring import FRAMES_READ, PAYLOAD_READ, Ring, check_geometry, ring_bytes
from host.card.start import check_card, settings
from host.closing import Closing

SIMULATED = "sim"
"""`pcie:sim` is the card's RTL in a simulated slot."""

ADDRESS_FORM = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")

HANGS_S = 10.0
"""A card that answers for so long but does nothing has a fault."""

NO_ANSWER = 2**64 - 1
"""What a host reads where nothing is."""


STREAM_WORDS = 1 << 13
"""Words of packets that are made ready at a time, or more where a packet is longer."""

CREDITS = (("frames_read", FRAMES_READ), ("payload_read", PAYLOAD_READ))
"""Registers that the host goes on writing, and the words of the ring's header that they follow."""


def parse_url(url: str) -> str:
    """The address of ``pcie:0000:03:00.0``, or SIMULATED. Raises CardError."""
    address = url.removeprefix("pcie:")
    if address != SIMULATED and not ADDRESS_FORM.fullmatch(address):
        raise CardError(f"'{url}' is not pcie:DOMAIN:BUS:DEVICE.FUNCTION (as pcie:0000:03:00.0) or pcie:{SIMULATED}")
    return address


class PcieCard(Closing):
    """A card that fills the ring by itself. See :class:`host.card.Card`.

    Raises CardError for a device that is no Tickgate card, is of another version, or decodes another schema; and later
    where it was reset, does not answer, or hangs. Closes the device where it raises.
    """

    def __init__(self, url: str, flows: Sequence[Flow], venue: Venue | None, device: PcieDevice, ring: Ring) -> None:
        self.url = url
        self.ring = ring
        self._device = device
        # Packets that were handed over, those of them that the caller sees as not done, and words that are still to be written.
        self._pushed = 0
        self._ahead = 0
        self._words = np.zeros(STREAM_WORDS, np.uint64)
        self._from = self._to = 0
        self._written = 0
        self._published = {name: 0 for name, _ in CREDITS}
        self._session = secrets.randbelow((1 << SESSION_BITS) - 1) + 1
        try:
            self._check(flows, venue)
            self._set_up(flows)
        except BaseException:
            device.close()
            raise

    def feed(self, packets: Packets, first: int = 0) -> int:
        """See :meth:`host.card.Card.feed`. Raises CardError where the card is lost."""
        following = first + self._ahead
        before, moved = None, time.monotonic()
        while True:
            self._publish_credit()
            following = self._push(packets, following)
            progress = self._progress()
            is_sent = following == len(packets) and self._from == self._to
            if is_sent and progress["finished"] == self._pushed % (1 << 32):
                break
            if progress["stalled"] and not self._has_news():
                break
            now = (progress["finished"], self._written, following)
            if now != before:
                before, moved = now, time.monotonic()
            elif time.monotonic() - moved > HANGS_S:
                raise CardError(f"{self.url}: the card answers but has done nothing for {HANGS_S:.0f} s")
        self._ahead = (self._pushed - progress["finished"]) % (1 << 32)
        return following - self._ahead

    def counters(self) -> dict[str, int]:
        """See :meth:`host.card.Card.counters`."""
        return {name: self._read(name) for name in COUNTERS}

    def link(self) -> dict[str, int]:
        """What happened on the link since the card has power: ``hdl.pcie_map.LINK_FIELDS``."""
        return unpack(LINK_FIELDS, self._load(Board.LINK))

    def close(self) -> None:
        """See :meth:`host.card.Card.close`. The card writes nothing from here on."""
        # The answer to the load comes behind all that the card has written.
        self._device.store(BOARD_BYTE + 8 * Board.SESSION, 0)
        self._device.load(BOARD_BYTE + 8 * Board.PROGRESS)
        self._device.close()
        self.ring.close()

    def _check(self, flows: Sequence[Flow], venue: Venue | None) -> None:
        if self._read("identity") == NO_ANSWER:
            raise CardError(f"{self.url}: the card does not answer: its link is down, or its memory space is disabled")
        check_card(self.url, self._read, flows, venue)
        board = unpack(BOARD_FIELDS, self._load(Board.BOARD))
        if board["version"] != PCIE_VERSION:
            raise CardError(
                f"{self.url}: the card's BAR has version {board['version']}, not {PCIE_VERSION}: flash it anew"
            )

    def _set_up(self, flows: Sequence[Flow]) -> None:
        self._store(Board.SESSION, self._session)
        self._progress()
        header = self.ring.header[0]
        bases = (
            self._device.bus_address(int(header["frames_offset"]), self.ring.frame_bytes.nbytes),
            self._device.bus_address(int(header["payload_offset"]), self.ring.payload.nbytes),
        )
        for address, value in settings(self.ring, flows, bases):
            self._device.store(REGISTERS_BYTE + 8 * address, value)

    def _read(self, name: str) -> int:
        return self._device.load(REGISTERS_BYTE + 8 * ADDRESS[name])

    def _write(self, name: str, value: int) -> None:
        self._device.store(REGISTERS_BYTE + 8 * ADDRESS[name], value)

    def _load(self, register: Board) -> int:
        return self._device.load(BOARD_BYTE + 8 * register)

    def _store(self, register: Board, value: int) -> None:
        self._device.store(BOARD_BYTE + 8 * register, value)

    def _progress(self) -> dict[str, int]:
        """How far the card is; CardError where it is not the card that it was."""
        said = self._load(Board.PROGRESS)
        if said == NO_ANSWER:
            raise CardError(f"{self.url}: the card does not answer any more: its link is down")
        progress = unpack(PROGRESS_FIELDS, said)
        if progress["session"] != self._session:
            raise CardError(f"{self.url}: the card was reset, and what it had is lost: open it anew")
        return progress

    def _has_news(self) -> bool:
        """Whether credit waits that the card does not know of."""
        return any(int(self.ring.words[word]) != self._published[name] for name, word in CREDITS)

    def _publish_credit(self) -> None:
        for name, word in CREDITS:
            read = int(self.ring.words[word])
            if read != self._published[name]:
                self._write(name, read)
                self._published[name] = read

    def _push(self, packets: Packets, following: int) -> int:
        """Write packets from number ``following`` on as far as the window has room; returns the next number."""
        room = WINDOW_BYTES - (self._written - self._load(Board.TAKEN))
        while room > 0:
            if self._from == self._to:
                if following == len(packets):
                    break
                following = self._pack(packets, following)
            place = self._written % WINDOW_BYTES
            count = min(8 * (self._to - self._from), room, WINDOW_BYTES - place)
            self._device.copy(WINDOW_BYTE + place, self._words[self._from : self._from + count // 8])
            self._from += count // 8
            self._written += count
            room -= count
        self._store(Board.WRITTEN, self._written)
        return following

    def _pack(self, packets: Packets, following: int) -> int:
        longest = HEADER_WORDS + -(-int(packets.length[following]) // 8)
        if longest > len(self._words):
            self._words = np.zeros(longest, np.uint64)
        self._from = 0
        self._to, after = pack_packets(
            packets.data, packets.offset, packets.length, packets.timestamp, following, self._words
        )
        self._pushed += after - following
        return after


def open_pcie(
    url: str,
    flows: Sequence[Flow],
    venue: Venue | None,
    *,
    ring: Path | None,
    frame_slots: int,
    payload_bytes: int,
) -> PcieCard:
    """Open the card in a slot with a ring in memory that it reaches. Raises CardError and RingError."""
    address = parse_url(url)
    check_geometry(frame_slots, payload_bytes, str(ring or "ring"))
    length = ring_bytes(frame_slots, payload_bytes)
    device: PcieDevice
    if address == SIMULATED:
        from sim.pcie_card import SimulatedDevice

        device = SimulatedDevice(venue, length, flows=FLOWS, path=ring)
    else:
        try:
            device = open_device(address, length, ring)
        except CardError as error:
            raise CardError(f"pcie: {error}") from None
    return PcieCard(url, flows, venue, device, Ring.within(device.memory, frame_slots, payload_bytes, ring))
