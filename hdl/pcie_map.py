"""BAR0 of the PCIe card: what stands where. The only definition; docs/pcie.md has it in words.

byte 0          the card's registers (register_map.py), 8 bytes each
BOARD_BYTE      the board's own, 8 bytes each
WINDOW_BYTE     the packet window, written only

"""

import enum

REGISTERS_BYTE = 0x0000
BOARD_BYTE = 0x1000
WINDOW_BYTE = 0x8000
WINDOW_BYTES = 0x2000
"""Bytes of packets that may be there before the card takes them, a power of two. A packet may be longer."""
BAR_BYTES = 0x10000

PCIE_VERSION = 1

PCI_VENDOR, PCI_DEVICE = 0x10EE, 0x9034
"""What AMD's block says of itself for Gen3 x4. Tickgate has no number of its own at the PCI-SIG: the identity register tells."""


class Board(enum.IntEnum):
    """The board's registers, by number."""

    BOARD = 0
    """read: ``BOARD_FIELDS``"""
    SESSION = 1
    """write: resets the card and the window, and is said back in PROGRESS; 0 behind any other reset"""
    WRITTEN = 2
    """write: bytes ever put into the window in this session"""
    TAKEN = 3
    """read: bytes ever taken out of it"""
    PROGRESS = 4
    """read: ``PROGRESS_FIELDS``"""
    LINK = 5
    """read: ``LINK_FIELDS``, counted since power was switched on"""


BOARD_FIELDS = {"version": 16}
"""``version`` is PCIE_VERSION."""

SESSION_BITS = 31

PROGRESS_FIELDS = {"finished": 32, "stalled": 1, "session": SESSION_BITS}
"""``finished``: packets that the card is done with, and all that it wrote for them is in host memory, or on the bus in front of this answer.
``stalled``: the card waits for credit, and the same holds."""

LINK_FIELDS = {"link_downs": 16, "function_resets": 16, "returns": 16, "dropped": 16}
"""``returns``: how often lines were sent again after Bus Master Enable had been taken away; ``dropped``: lines that a reset took."""

PACKET_HEADER = {"length": 64, "timestamp": 64}
"""In front of each packet in the window; its bytes are filled up to a multiple of 8."""
