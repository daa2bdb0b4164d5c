"""What stands in front of SBE messages in a packet: described, not coded (docs/sbe.md, "Framing").

A packet is a packet header, then messages; each message is a prefix, the SBE header and the body. How a message's end is found
is the framing's: a length in front of it, the packet's end, or the message's own structure.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hdl.limits import PREFIX_LIMIT
from hdl.sbe_schema import ByteOrder, Slot

SLOT = re.compile(r"u(8|16|32|64)@(\d+)")
MAGIC = re.compile(r"(u\d+@\d+) *= *(0x[0-9A-Fa-f]+|\d+)")


class End(Enum):
    """What tells a message's end."""

    LENGTH = "length"
    PACKET = "packet"
    """One message a packet."""
    STRUCTURE = "structure"
    """Its block lengths, groups and var data: another message begins behind them."""


@dataclass(frozen=True)
class Framing:
    """Sizes in bytes. Slots of ``packet_*`` count from the packet's begin, those of ``message_*`` from the prefix's; they may
    reach into the SBE header, where a venue has put its length there."""

    byte_order: ByteOrder = "little"
    packet_size: int = 0
    packet_sequence: Slot | None = None
    message_size: int = 0
    end: End = End.PACKET
    length: Slot | None = None
    length_excess: int = 0
    """What the length counts beyond the message (SBE header and body)."""
    message_sequence: Slot | None = None
    magic: Slot | None = None
    magic_value: int = 0

    @property
    def needed(self) -> int:
        """Bytes from a message's begin that must be there before its framing can be read: the prefix, and what is read."""
        slots = (self.message_sequence, self.length, self.magic)
        return max(self.message_size, *(slot.offset + slot.size for slot in slots if slot is not None), 0)

    @property
    def suits_streams(self) -> bool:
        """Whether messages come one behind the other in a TCP stream, each with its length."""
        return self.packet_size == 0 and self.end is End.LENGTH


class FramingError(ValueError):
    """A framing's description is wrong; one line that says where and why."""


ARBITRATED_BYTES, ARBITRATED_BITS = 8, 32
"""A packet of a feed is judged by its first beat, and its number goes into a gap beat (:mod:`hdl.beat`)."""


def arbitrated_slot(framing: Framing) -> Slot:
    """Where the card finds the sequence number by which feeds are arbitrated. Raises :class:`FramingError` where it cannot."""
    slot = framing.packet_sequence
    if slot is None:
        raise FramingError("feeds cannot be arbitrated: packets have no sequence number (framing: packet, sequence)")
    if slot.offset + slot.size > ARBITRATED_BYTES or 8 * slot.size > ARBITRATED_BITS:
        raise FramingError(
            f"feeds cannot be arbitrated: the packets' sequence number is u{8 * slot.size}@{slot.offset}; it must lie in the first "
            f"{ARBITRATED_BYTES} bytes and have at most {ARBITRATED_BITS} bits"
        )
    return slot


def read_framing(table: dict[str, Any]) -> Framing:
    """A framing from a profile's table ``[framing]``. Raises :class:`FramingError`."""
    table = dict(table)
    order = table.pop("byte_order", "little")
    if order not in ("little", "big"):
        raise FramingError(f"byte_order '{order}' is neither 'little' nor 'big'")
    packet = _part(table, "packet")
    packet_size = _size(packet, "packet")
    packet_sequence = _slot(packet, "packet", "sequence", packet_size)
    message = _part(table, "message")
    message_size = _size(message, "message")
    end_text = message.pop("end", None)
    length = _slot(message, "message", "length", None)
    if (length is None) == (end_text is None):
        raise FramingError("message needs a length (such as 'u16@0'), or end = 'packet' or 'structure'")
    if end_text not in (None, End.PACKET.value, End.STRUCTURE.value):
        raise FramingError(f"message: end '{end_text}' is neither 'packet' nor 'structure'")
    counts = message.pop("counts", "message")
    if counts not in ("message", "all"):
        raise FramingError(
            f"message: counts '{counts}' is neither 'message' (SBE header and body) nor 'all' (the prefix too)"
        )
    sequence = _slot(message, "message", "sequence", None)
    magic, value = _magic(message)
    for where, rest in (("packet: ", packet), ("message: ", message), ("", table)):
        if rest:
            raise FramingError(f"{where}'{next(iter(rest))}' is not known")
    return Framing(
        byte_order=order,
        packet_size=packet_size,
        packet_sequence=packet_sequence,
        message_size=message_size,
        end=End.LENGTH if end_text is None else End(end_text),
        length=length,
        length_excess=message_size if counts == "all" else 0,
        message_sequence=sequence,
        magic=magic,
        magic_value=value,
    )


def _part(table: dict[str, Any], name: str) -> dict[str, Any]:
    part = table.pop(name, {})
    if not isinstance(part, dict):
        raise FramingError(f"{name} is no table")
    return dict(part)


def _size(part: dict[str, Any], name: str) -> int:
    size = part.pop("size", 0)
    if not isinstance(size, int) or not 0 <= size <= PREFIX_LIMIT:
        raise FramingError(f"{name}: size {size} is not a number of bytes from 0 to {PREFIX_LIMIT}")
    return size


def _slot(part: dict[str, Any], name: str, key: str, size: int | None) -> Slot | None:
    text = part.pop(key, None)
    return None if text is None else _read_slot(text, f"{name}: {key}", size)


def _read_slot(text: object, where: str, size: int | None) -> Slot:
    found = SLOT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise FramingError(f"{where} '{text}' is not written like 'u16@0' (type and offset)")
    slot = Slot(int(found[2]), int(found[1]) // 8)
    if slot.offset + slot.size > (PREFIX_LIMIT if size is None else size):
        raise FramingError(f"{where} '{text}' stands behind the end")
    return slot


def _magic(part: dict[str, Any]) -> tuple[Slot | None, int]:
    text = part.pop("magic", None)
    if text is None:
        return None, 0
    found = MAGIC.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise FramingError(f"message: magic '{text}' is not written like 'u16@2 = 0xCAFE'")
    slot = _read_slot(found[1], "message: magic", None)
    value = int(found[2], 0)
    if value >= 1 << 8 * slot.size:
        raise FramingError(f"message: magic '{text}' does not fit its {slot.size} bytes")
    return slot, value
