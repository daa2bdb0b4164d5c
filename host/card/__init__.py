"""Cards: what takes packets in and fills the rings. The rest of the host cannot tell one from another."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from hdl.flow import Flow, Parser
from hdl.limits import FLOWS
from host.card.ring import FRAME_SLOTS, PAYLOAD_BYTES, Lapped, Ring, RingError

if TYPE_CHECKING:
    # Whoever only reads a ring needs neither schemas nor captures.
    from hdl.sbe_venue import Venue
    from host.capture.packets import Packets

__all__ = ["Card", "CardError", "Lapped", "Ring", "RingError", "check_url", "open_card"]


class CardError(ValueError):
    """A card that cannot be opened or used so; one line that says why."""


class Card(Protocol):
    """A card. Also a context manager that closes it."""

    url: str
    ring: Ring

    def feed(self, packets: "Packets", first: int = 0) -> int:
        """Take packets from index ``first`` on while the rings have credit; never waits.

        Returns the index of the first packet that is not yet done: all its frames and those of the packets before it
        are in the ring. Some of its own may be there already: go on with the same packet, once frames are released.
        """

    def counters(self) -> dict[str, int]:
        """The card's counters, by the names and in the order of ``hdl.register_map.COUNTERS``."""

    def close(self) -> None:
        """Give back what the card holds, its ring too."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


THERE_ARE = "there are rtl:, soft:, serial:DEVICE, eth:INTERFACE and pcie:ADDRESS"


def check_url(url: str) -> str:
    """The scheme of a card's URL. Raises :class:`CardError` for what is no card or not supported."""
    scheme, colon, _address = url.partition(":")
    if scheme == "serial" and colon:
        from host.card.serial import parse_url

        parse_url(url)
    elif scheme == "eth" and colon:
        from host.card.eth import parse_url as parse_eth_url

        parse_eth_url(url)
    elif scheme == "pcie" and colon:
        from host.card.pcie import parse_url as parse_pcie_url

        parse_pcie_url(url)
    elif url not in ("rtl:", "soft:"):
        raise CardError(f"'{url}' is no card ({THERE_ARE})")
    return scheme


def open_card(
    url: str,
    flows: Sequence[Flow],
    venue: "Venue | None" = None,
    *,
    ring: Path | None = None,
    frame_slots: int = FRAME_SLOTS,
    payload_bytes: int = PAYLOAD_BYTES,
) -> Card:
    """Open a card with its flow table, and a ring of its own (at ``ring``, or in memory of this process).

    ``venue`` is that of all SBE flows. Raises :class:`CardError` for what is no card or not supported, SchemaError for a venue that
    the card cannot decode, :class:`RingError` for the ring's sizes, OSError for files.
    """
    scheme = check_url(url)
    if len(flows) > FLOWS:
        raise CardError(f"{len(flows)} flows are too many: the card's flow table has {FLOWS} rows")
    if venue is None and any(flow.parser is Parser.SBE for flow in flows):
        raise CardError("an SBE flow needs a schema")
    # Only the card that is asked for is imported: one needs a simulator, the other a compiler of loops.
    if scheme == "rtl":
        from sim.verilated import VerilatedCard

        return VerilatedCard(flows, venue, Ring.create(ring, frame_slots, payload_bytes))
    if scheme == "serial":
        from host.card.serial import open_serial

        return open_serial(url, flows, venue, Ring.create(ring, frame_slots, payload_bytes))
    if scheme == "eth":
        from host.card.eth import EthCard

        return EthCard(url, flows, venue, Ring.create(ring, frame_slots, payload_bytes))
    if scheme == "pcie":
        from host.card.pcie import open_pcie

        return open_pcie(url, flows, venue, ring=ring, frame_slots=frame_slots, payload_bytes=payload_bytes)
    from host.card.soft import SoftCard

    return SoftCard(flows, venue, Ring.create(ring, frame_slots, payload_bytes))
