"""The registers of a card that somebody else may have set up: to ask what it is."""

import contextlib
from collections.abc import Callable, Iterator

from hdl.ethernet_frame import ETHERTYPE
from hdl.register_map import ADDRESS
from host.card import CardError, check_url, eth, serial
from host.card.eth_link import EthLink
from host.card.link_session import LinkError, LinkSession
from host.card.packet_ring import Interface
from host.card.ring import SMALLEST_FRAME_SLOTS, SMALLEST_PAYLOAD_BYTES, Ring
from host.card.serial_link import SerialLink


@contextlib.contextmanager
def open_registers(url: str) -> Iterator[Callable[[str], int]]:
    """Read the registers of a board by their names; its card begins anew with that. Raises CardError where there is none."""
    try:
        link = _open_link(url)
    except LinkError as error:
        raise CardError(f"{url}: {error}") from None

    def read(name: str) -> int:
        try:
            return link.read(ADDRESS[name])
        except LinkError as error:
            raise CardError(f"{url}: {error}") from None

    try:
        yield read
    finally:
        link.close()


def _open_link(url: str) -> LinkSession:
    match check_url(url):
        case "serial":
            return SerialLink(*serial.parse_url(url))
        case "eth":
            name, _, board = eth.parse_url(url)
            interface = Interface(name, ETHERTYPE)
            # The card is not started, so nothing comes into these rings.
            return EthLink(interface, interface, board, Ring.create(None, SMALLEST_FRAME_SLOTS, SMALLEST_PAYLOAD_BYTES))
        case other:
            raise CardError(f"{url}: the registers of a {other}: card are not read without opening it")
