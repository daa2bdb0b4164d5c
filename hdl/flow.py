"""A row of the flow table: which packets form a flow, and which parser reads them."""

import enum
import ipaddress
from typing import NamedTuple


class Protocol(enum.IntEnum):
    """IPv4 protocol numbers."""

    TCP = 6
    UDP = 17


class Parser(enum.IntEnum):
    """What reads a flow's bytes."""

    FIX = 1
    SBE = 2


class Endpoint(NamedTuple):
    """IPv4 address and port as numbers; 0 fits any (sources only)."""

    address: int
    port: int

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read ``224.0.31.64:14340``. Raises ValueError with the text when it is not one."""
        address, colon, port = text.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 0xFFFF:
            raise ValueError(f"'{text}' is not ADDRESS:PORT")
        try:
            return cls(int(ipaddress.IPv4Address(address)), int(port))
        except ipaddress.AddressValueError as error:
            raise ValueError(f"'{text}' is not ADDRESS:PORT ({error})") from None

    def __str__(self) -> str:
        return f"{ipaddress.IPv4Address(self.address)}:{self.port}"


ANYWHERE = Endpoint(0, 0)


class Side(enum.IntEnum):
    """One of the two feeds of a channel."""

    A = 0
    B = 1


class Feed(NamedTuple):
    """Which feed of which channel (counted from 0) a flow is: the card passes on one copy of what both carry (docs/feeds.md)."""

    channel: int
    side: Side


class Flow(NamedTuple):
    """One row of the flow table; ``feed`` where it is arbitrated."""

    protocol: Protocol
    destination: Endpoint
    parser: Parser
    source: Endpoint = ANYWHERE
    feed: Feed | None = None
