"""What the frames of all links between host and board have in common: fields as tables, and the board's own word.

All numbers are little endian, and fields whole bytes that stand behind one another.
"""

import enum
from collections.abc import Mapping


class Down(enum.IntEnum):
    """Kinds of frames from the host to the board. Not every link has all."""

    OPEN = 1
    POLL = 2
    ACKNOWLEDGE = 3
    WRITE = 4
    READ = 5
    PACKETS = 6
    START = 7
    MARK = 8


NUMBERED = (Down.WRITE, Down.READ, Down.PACKETS, Down.START)
"""Kinds that are taken in order, once each."""


class Up(enum.IntEnum):
    """Kinds of frames from the board to the host."""

    STATUS = 1
    LINE = 2
    LINES = 3


OUTSIDE = 0xFF00
"""READs from here on are not of the card's registers, but of what stands around it."""

BOARD_ADDRESS = 0xFFFF
"""A READ from here gives ``BOARD``, which is no register of the card."""

BOARD = {"version": 8, "kind": 8, "store": 8}
"""``version`` is that of the link, ``kind`` a BoardKind, ``store`` KiB of packets that the board keeps until the card takes them (0: as the
link's own page says)."""


class BoardKind(enum.IntEnum):
    """What a board does: all that a card does, or read FIX from the bytes of a flow, while the host does the rest."""

    CARD = 0
    FIX = 1


def size(fields: Mapping[str, int]) -> int:
    """Bytes of a table's fields."""
    return sum(fields.values()) // 8


def offsets(fields: Mapping[str, int], first: int = 0) -> dict[str, int]:
    """Where each field begins, in bytes, the first one at ``first``."""
    found, at = {}, first
    for name, bits in fields.items():
        found[name] = at
        at += bits // 8
    return found


def pack(fields: Mapping[str, int], **values: int) -> bytes:
    """The bytes of fields; what is left out is 0."""
    return b"".join(values.get(name, 0).to_bytes(bits // 8, "little") for name, bits in fields.items())


def unpack(fields: Mapping[str, int], data: bytes) -> dict[str, int]:
    """The fields at the beginning of ``data``."""
    return {name: int.from_bytes(data[at : at + fields[name] // 8], "little") for name, at in offsets(fields).items()}


def board_word(version: int, kind: BoardKind, store: int = 0) -> int:
    """What a READ from ``BOARD_ADDRESS`` gives."""
    return int.from_bytes(pack(BOARD, version=version, kind=kind, store=store), "little")
