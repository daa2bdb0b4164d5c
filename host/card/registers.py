"""The registers of a card that somebody else may have set up: to ask what it is."""

import contextlib
from collections.abc import Callable, Iterator

from hdl.register_map import ADDRESS
from host.card import CardError, check_url
from host.card.link_session import LinkError
from host.card.serial import parse_url
from host.card.serial_link import SerialLink


@contextlib.contextmanager
def open_registers(url: str) -> Iterator[Callable[[str], int]]:
    """Read the registers of a board by their names; its card begins anew with that. Raises CardError where there is none."""
    if check_url(url) != "serial":
        raise CardError(f"{url}: only the registers of a serial: card are read so")
    try:
        link = SerialLink(*parse_url(url))
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
