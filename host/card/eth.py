"""The ``eth:`` card: a board at an Ethernet port of this machine (docs/eth.md)."""

from collections import deque
from collections.abc import Sequence
from urllib.parse import parse_qs

from hdl.ethernet_frame import ETHERTYPE, LINK_VERSION, MAC_BYTES, STORE_UNIT
from hdl.flow import Flow
from hdl.headers import ETHERTYPE_OFFSET
from hdl.link_frame import Down
from hdl.mac import LONGEST_PACKET, SHORTEST_PACKET
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.card import CardError
from host.card.eth_link import EthLink
from host.card.link_session import LinkError
from host.card.linked import WholeCard, check_board, closing_where_it_fails
from host.card.packet_ring import Interface
from host.card.ring import Ring

HANGS_S = 10.0
"""A board that answers for so long but does nothing has a fault."""

STORE_MARGIN_BYTES = 512
"""Of the board's store that is left for what others send: MARKs that are repeated, and a frame that comes while it is full."""

STORE_WORD_BYTES = 8


def parse_url(url: str) -> tuple[str, str, bytes | None]:
    """Interface, interface of the traffic, and the board's MAC address of ``eth:enp3s0?traffic=enp4s0&board=02:54:49:43:4b:01``. Raises CardError."""
    interface, _, query = url.removeprefix("eth:").partition("?")
    options = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
    traffic = options.pop("traffic", interface)
    board = options.pop("board", None)
    try:
        address = None if board is None else bytes.fromhex(board.replace(":", "").replace("-", ""))
    except ValueError:
        address = b""
    if not interface or not traffic or options or (address is not None and len(address) != MAC_BYTES):
        raise CardError(f"'{url}' is not eth:INTERFACE or eth:INTERFACE?traffic=INTERFACE&board=MAC (as eth:enp3s0)")
    return interface, traffic, address


class EthCard(WholeCard):
    """A board that fills the ring over Ethernet. See :class:`host.card.Card`.

    Frames have the times at which packets came to the board. What was lost on the way from the board is GAP frames. Raises CardError where
    there is no interface, no permission, no answer, another card than this version's, or one that decodes another schema; and later where
    the board does not answer any more, was restarted, or hangs.
    """

    def __init__(self, url: str, flows: Sequence[Flow], venue: Venue | None, ring: Ring) -> None:
        name, traffic_name, board = parse_url(url)
        # What is in the board's store: the number of packets that were pushed up to each MARK, and the bytes between two.
        self._marks: deque[tuple[int, int]] = deque()
        self._stored = 0
        try:
            interface = Interface(name, ETHERTYPE)
            self._traffic = interface if traffic_name == name else Interface(traffic_name)
            self._link = link = EthLink(interface, self._traffic, board, ring)
        except LinkError as error:
            raise CardError(f"{url}: {error}") from None
        with closing_where_it_fails(url, link):
            store = check_board(url, link, LINK_VERSION, flows, venue)["store"]
            self._room = store * STORE_UNIT - STORE_MARGIN_BYTES
            super().__init__(url, link, flows, ring, HANGS_S)
            link.request(Down.START)
            # Packets may go another way: they must not be there before.
            link.finish()

    def _push(self, packets: Packets, following: int) -> int:
        while self._marks and self._marks[0][0] <= self._link.finished:
            self._stored -= self._marks.popleft()[1]
        before, pushed = self._pushed, 0
        while following < len(packets):
            packet = packets.packet(following).ljust(SHORTEST_PACKET, b"\0")
            if len(packet) > LONGEST_PACKET:
                raise LinkError(
                    f"packet {following:,} has {len(packet):,} bytes, and the board takes {LONGEST_PACKET:,}"
                )
            taken = stored_bytes(len(packet))
            if self._stored + pushed + taken + stored_bytes(SHORTEST_PACKET) > self._room:
                break
            # The link's own EtherType is none of the card's business.
            if packet[ETHERTYPE_OFFSET : ETHERTYPE_OFFSET + 2] != ETHERTYPE.to_bytes(2, "big"):
                self._traffic.send(packet)
                pushed += taken
            following += 1
            self._pushed += 1
        if self._pushed != before:
            pushed += stored_bytes(SHORTEST_PACKET)
            self._stored += pushed
            self._marks.append((self._pushed, pushed))
            self._link.mark(self._pushed)
        return following


def stored_bytes(length: int) -> int:
    """What a packet takes of the board's store: whole words, and one for its time."""
    return (-(-length // STORE_WORD_BYTES) + 1) * STORE_WORD_BYTES
