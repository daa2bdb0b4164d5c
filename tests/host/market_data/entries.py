"""Hand-made market data frames, and a venue whose schema has what books read from raw messages."""

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import FRAME_DTYPE, Flag, Kind
from hdl.sbe_venue import Venue, load_venue
from host.market_data import Books, View

SCHEMA = """<messageSchema package="books" id="9" version="2">
<types>
  <composite name="messageHeader"><type name="blockLength" primitiveType="uint16"/><type name="templateId" primitiveType="uint16"/>
    <type name="schemaId" primitiveType="uint16"/><type name="version" primitiveType="uint16"/></composite>
  <composite name="groupSizeEncoding"><type name="blockLength" primitiveType="uint16"/><type name="numInGroup" primitiveType="uint8"/></composite>
  <composite name="Price"><type name="mantissa" primitiveType="int64" presence="optional"/><type name="exponent" primitiveType="int8" presence="constant">-9</type></composite>
  <type name="Symbol" primitiveType="char" length="8"/>
  <type name="Feed" primitiveType="char" length="3"/>
  <enum name="Entry" encodingType="char"><validValue name="Bid">0</validValue><validValue name="Offer">1</validValue></enum>
</types>
<message name="Update" id="1"><field name="Indicator" id="5799" type="uint8"/>
  <group name="Entries" id="268"><field name="Px" id="270" type="Price"/><field name="Size" id="271" type="int32"/><field name="Security" id="48" type="int32"/>
    <field name="RptSeq" id="83" type="uint32"/><field name="Orders" id="346" type="int32"/><field name="Level" id="1023" type="uint8"/>
    <field name="Action" id="279" type="uint8"/><field name="Type" id="269" type="char"/></group>
  <group name="Shares" id="37705"><field name="OrderID" id="37" type="uint64"/><field name="Priority" id="37707" type="uint64"/><field name="DisplayQty" id="37706" type="int32"/>
    <field name="ReferenceID" id="9633" type="uint8" presence="optional"/><field name="OrderAction" id="37708" type="uint8"/></group></message>
<message name="OrderUpdate" id="2"><field name="Indicator" id="5799" type="uint8"/>
  <group name="Entries" id="268"><field name="OrderID" id="37" type="uint64"/><field name="Priority" id="37707" type="uint64"/><field name="Px" id="270" type="Price"/>
    <field name="DisplayQty" id="37706" type="int32"/><field name="Security" id="48" type="int32"/><field name="Action" id="279" type="uint8"/><field name="Type" id="269" type="char"/></group></message>
<message name="Snapshot" id="3"><field name="LastSequence" id="369" type="uint32"/><field name="Security" id="48" type="int32"/><field name="RptSeq" id="83" type="uint32"/><field name="Status" id="1682" type="uint8"/>
  <group name="Entries" id="268"><field name="Px" id="270" type="Price"/><field name="Size" id="271" type="int32"/><field name="Orders" id="346" type="int32"/>
    <field name="Level" id="1023" type="uint8"/><field name="Type" id="269" type="char"/></group></message>
<message name="OrderSnapshot" id="4"><field name="LastSequence" id="369" type="uint32"/><field name="Security" id="48" type="int32"/><field name="Chunks" id="1" type="uint32"/><field name="Chunk" id="2" type="uint32"/>
  <group name="Entries" id="268"><field name="OrderID" id="37" type="uint64"/><field name="Priority" id="37707" type="uint64"/><field name="Px" id="270" type="Price"/>
    <field name="DisplayQty" id="37706" type="int32"/><field name="Type" id="269" type="char"/></group></message>
<message name="Status" id="5"><field name="Group" id="1151" type="Symbol"/><field name="Security" id="48" type="int32" presence="optional"/><field name="Trading" id="326" type="uint8"/></message>
<message name="Definition" id="6"><field name="Security" id="48" type="int32"/><field name="Symbol" id="55" type="Symbol"/><field name="Group" id="1151" type="Symbol"/>
    <field name="Tick" id="969" type="Price"/><field name="Factor" id="9787" type="Price"/><field name="Multiplier" id="231" type="int32"/>
  <group name="Feeds" id="1141"><field name="FeedType" id="1022" type="Feed"/><field name="Depth" id="264" type="int8"/></group></message>
<message name="Reset" id="7"><field name="Type" id="269" type="char"/></message>
</messageSchema>"""

PROFILE = """[framing]
packet = { size = 4, sequence = "u32@0" }
message = { size = 2, length = "u16@0", counts = "all" }
[frames]
"Update*" = "by entry type"
"OrderUpdate*" = "by entry type"
"Snapshot*" = "by entry type"
"OrderSnapshot*" = "by entry type"
"Status*" = "status"
"Definition*" = "definition"
"Reset*" = { kind = "book update", entry_type = "J" }
[fields]
price = "Px"
quantity = ["Size", "DisplayQty"]
instrument = "Security"
entry_type = "Type"
update_action = ["Action", "OrderAction"]
price_level = "Level"
number_of_orders = "Orders"
instrument_sequence = "RptSeq"
[books]
snapshots = ["Snapshot", "OrderSnapshot"]
contiguous = true
depth = { outright = 3, implied = 2 }
order_id = "OrderID"
priority = "Priority"
entry = "ReferenceID"
last_sequence = "LastSequence"
chunk = "Chunk"
chunks = "Chunks"
status = [326, "Status"]
end_of_event = { field = "Indicator", bit = 7 }
"""

FLOWS = [Flow(Protocol.UDP, Endpoint(0xE0000001, 1000 + number), Parser.SBE) for number in range(4)]
FIX_FLOW = Flow(Protocol.TCP, Endpoint(0x0A000001, 5000), Parser.FIX)

UPDATE, ORDER_UPDATE, SNAPSHOT, ORDER_SNAPSHOT, STATUS, DEFINITION, RESET = 1, 2, 3, 4, 5, 6, 7
NEW, CHANGE, DELETE, THRU, FROM, OVERLAY = "012345"
END = 0x80
PRICE, QUANTITY = 10**9, 10**8


def books_venue(folder: Path) -> Venue:
    path = folder / "books.xml"
    path.write_text(SCHEMA)
    (folder / "books.profile.toml").write_text(PROFILE)
    return load_venue(path)


@dataclass
class Entry:
    """One entry: prices and quantities are whole numbers; None is absent."""

    type: str
    action: str = NEW
    price: int | None = None
    quantity: int | None = None
    level: int = 0
    orders: int = 1
    instrument: int = 7
    number: int = 0
    kind: Kind | None = None
    order_id: int = 0
    priority: int = 0
    reference: int = 0


KINDS = {"2": Kind.TRADE} | dict.fromkeys("01EFJ", Kind.BOOK_UPDATE)


@dataclass
class Wire:
    """Writes frames and their raw messages, as the card would."""

    frames: list[np.ndarray] = field(default_factory=list)
    raw: bytearray = field(default_factory=lambda: bytearray(64))
    time: int = 0

    def message(
        self,
        sequence: int,
        entries: list[Entry],
        *,
        template: int = UPDATE,
        root: bytes = bytes([END]),
        flow: int = 0,
        instrument: int = 0,
        number: int = 0,
        kind: Kind = Kind.OTHER,
        same_packet: bool = False,
    ) -> None:
        """A message with entries; without any, one frame of ``kind``."""
        if not same_packet:
            self.time += 1000
        offset = len(self.raw)
        self.raw += struct.pack("<HHHH", len(root), template, 9, 2) + root
        rows = []
        for entry in entries or [None]:
            frame = np.zeros((), FRAME_DTYPE)
            frame["timestamp"], frame["sequence"], frame["flow"] = self.time, sequence, flow
            frame["message_type"], frame["payload_offset"] = template, offset
            frame["instrument"], frame["instrument_sequence"], frame["kind"] = instrument, number, kind
            frame["flags"] = Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT
            if entry is not None:
                self._fill(frame, entry, len(self.raw) - offset, template)
            rows.append(frame)
        for frame in rows:
            frame["payload_length"] = len(self.raw) - offset
        self.frames += rows

    def _fill(self, frame: np.ndarray, entry: Entry, at: int, template: int) -> None:
        frame["entry_offset"] = at
        frame["kind"] = KINDS.get(entry.type, Kind.STATISTIC) if entry.kind is None else entry.kind
        frame["entry_type"] = 0 if entry.kind is Kind.DETAIL else ord(entry.type)
        frame["update_action"] = 0 if template in (SNAPSHOT, ORDER_SNAPSHOT) else ord(entry.action)
        frame["price_level"], frame["number_of_orders"] = entry.level, entry.orders
        if template not in (SNAPSHOT, ORDER_SNAPSHOT):
            frame["instrument"], frame["instrument_sequence"] = entry.instrument, entry.number
        flags = 0
        if entry.price is None:
            flags |= Flag.PRICE_ABSENT
        else:
            frame["price"] = entry.price * PRICE
        if entry.quantity is None:
            flags |= Flag.QUANTITY_ABSENT
        else:
            frame["quantity"] = entry.quantity * QUANTITY
        frame["flags"] = flags
        if template in (ORDER_UPDATE, ORDER_SNAPSHOT):
            self.raw += struct.pack("<QQ", entry.order_id, entry.priority) + bytes(20)
        elif entry.kind is Kind.DETAIL:
            frame["instrument"] = 0
            self.raw += struct.pack("<QQiBB", entry.order_id, entry.priority, 0, entry.reference, 0)
        else:
            self.raw += bytes(32)

    def give(self, books: Books) -> None:
        """Let books have what was written since the last time."""
        payload = np.frombuffer(bytes(self.raw), np.uint8)
        frames = np.array(self.frames, FRAME_DTYPE) if self.frames else np.zeros(0, FRAME_DTYPE)
        self.frames.clear()
        books.update(frames, payload)


def shown(books: Books, instrument: int = 7, view: View = View.OUTRIGHT) -> tuple[list, list]:
    """Both sides as (price, quantity, orders); a hole is None."""
    found = books.levels(instrument, view)
    bids, asks = (
        [level and (level.price // PRICE, level.quantity // QUANTITY, level.orders) for level in side]
        for side in (found.bids, found.asks)
    )
    return bids, asks
