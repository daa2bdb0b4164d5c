"""The ``serial:`` card: a board at the other end of a UART (docs/serial.md)."""

from collections.abc import Sequence
from urllib.parse import parse_qs

from hdl.flow import Flow
from hdl.link_frame import BoardKind
from hdl.sbe_venue import Venue
from hdl.serial_frame import DEFAULT_BAUD, LINK_VERSION
from host.card import CardError
from host.card.link_session import LinkError
from host.card.linked import LinkedCard, check_board, closing_where_it_fails
from host.card.ring import Ring
from host.card.serial_link import SerialLink
from host.card.serial_packets import PacketBoard
from host.card.serial_segments import SegmentBoard


def parse_url(url: str) -> tuple[str, int]:
    """Device and baud rate of ``serial:/dev/ttyUSB1?baud=921600``. Raises CardError."""
    device, _, query = url.removeprefix("serial:").partition("?")
    options = parse_qs(query, keep_blank_values=True)
    baud = options.pop("baud", [str(DEFAULT_BAUD)])[-1]
    if not device or options or not baud.isdecimal() or int(baud) == 0:
        raise CardError(f"'{url}' is not serial:DEVICE or serial:DEVICE?baud=NUMBER (as serial:/dev/ttyUSB1)")
    return device, int(baud)


def open_serial(url: str, flows: Sequence[Flow], venue: Venue | None, ring: Ring) -> LinkedCard:
    """The card that answers: a whole one, or one that reads FIX alone. See :class:`host.card.Card`.

    Raises CardError where there is no device, no permission, no answer, another card than this version's, or one that cannot do
    what the flows need; and later where the board does not come back, was restarted, or hangs.
    """
    device, baud = parse_url(url)
    try:
        link = SerialLink(device, baud)
    except LinkError as error:
        raise CardError(f"{url}: {error}") from None
    boards = {BoardKind.CARD: PacketBoard, BoardKind.FIX: SegmentBoard}
    with closing_where_it_fails(url, link):
        kind = check_board(url, link, LINK_VERSION, flows, venue)["kind"]
        if kind not in set(BoardKind):
            raise CardError(f"{url}: the board is of a kind that this version does not know ({kind})")
        return boards[BoardKind(kind)](url, link, flows, ring)
