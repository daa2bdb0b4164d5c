"""Frames as Arrow tables: the columns are the frame's fields, what is absent is null, codes are names, offsets of texts are the texts."""

import enum
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from hdl.flow import Flow, Parser
from hdl.frame import (
    MARKET_DATA,
    NO_FLOW,
    PRICE_DECIMALS,
    QUANTITY_DECIMALS,
    Flag,
    Kind,
    OrderType,
    Side,
    TimeInForce,
)
from hdl.sbe_venue import Venue
from host.playback.selection import channel_name
from host.playback.texts import gather_texts, text_ends
from host.sbe.arrow import Decimals, Metadata, Names, char_name, decimal_column, masked, times

TEXTS = ("client_order_id", "original_order_id", "symbol", "account")
"""Fields of the order view that say where a text begins."""

OF_FLOW = (Kind.SESSION, Kind.OTHER, Kind.GAP, Kind.MALFORMED)
"""Kinds whose view is that of the flow's parser."""

PLAIN = ("instrument", "sequence", "flags", "payload_length", "entry_offset")
SBE_TYPE = 1 << 16
"""Added to a message type that is an SBE template id."""


class FrameTables:
    """Makes the tables, batch after batch, all with the same types.

    ``flow`` is the flow's name (:func:`~host.playback.selection.channel_name`), null of a frame that belongs to none;
    ``message_type`` FIX's MsgType or the template's name. Fields of the view that a frame does not have are null.
    """

    def __init__(self, flows: Sequence[Flow], venue: Venue | None, decimals: Decimals = Decimals.DECIMAL128) -> None:
        self._decimals = decimals
        self._is_sbe = np.zeros(1 << 16, bool)
        self._is_sbe[: len(flows)] = [flow.parser is Parser.SBE for flow in flows]
        templates = {} if venue is None else {SBE_TYPE + each.id: each.name for each in venue.schema.messages}
        self._flows = Names({number: channel_name(flow) for number, flow in enumerate(flows)})
        self._types = Names(templates, _type_name)
        self._kinds = Names({kind: kind.name for kind in Kind}, index=np.int8)
        self._named = {
            "side": _chars(Side),
            "order_type": _chars(OrderType),
            "time_in_force": _chars(TimeInForce),
            "entry_type": Names({}, char_name, np.int16),
            "update_action": Names({}, char_name, np.int16),
        }

    def table(self, frames: np.ndarray, payload: np.ndarray) -> pa.Table:
        """The table of some frames, whose raw messages are in ``payload``."""
        kinds, flows, flags = frames["kind"], np.ascontiguousarray(frames["flow"]), frames["flags"]
        sbe = self._is_sbe[flows]
        of_flow = np.isin(kinds, OF_FLOW)
        no_market = ~np.where(of_flow, sbe, np.isin(kinds, MARKET_DATA))
        no_order = ~no_market
        columns: dict[str, tuple[pa.Array, Metadata]] = {}
        columns["timestamp"] = times(frames["timestamp"]), None
        columns["flow"] = self._flows.column(flows, flows == NO_FLOW), None
        columns["kind"] = self._kinds.column(kinds), None
        types = frames["message_type"] + np.where(sbe, np.uint32(SBE_TYPE), np.uint32(0))
        columns["message_type"] = self._types.column(types, types % SBE_TYPE == 0), None
        for name in PLAIN:
            columns[name] = masked(np.ascontiguousarray(frames[name])), None
        for name, absent, places in (
            ("price", Flag.PRICE_ABSENT, PRICE_DECIMALS),
            ("quantity", Flag.QUANTITY_ABSENT, QUANTITY_DECIMALS),
        ):
            columns[name] = decimal_column(frames[name], flags & absent != 0, places, self._decimals)
        for name in ("entry_type", "update_action"):
            columns[name] = self._named[name].column(frames[name], no_market | (frames[name] == 0)), None
        for name in ("price_level", "number_of_orders", "instrument_sequence"):
            columns[name] = masked(np.ascontiguousarray(frames[name]), no_market | (frames[name] == 0)), None
        for name in ("side", "order_type", "time_in_force"):
            columns[name] = self._named[name].column(frames[name], no_order | (frames[name] == 0)), None
        for name in TEXTS:
            columns[name] = _texts(frames, payload, frames[name], no_order | (frames[name] == 0)), None
        schema = pa.schema([pa.field(name, each.type, metadata=about) for name, (each, about) in columns.items()])
        return pa.Table.from_arrays([each for each, _ in columns.values()], schema=schema)


def _chars(kind: type[enum.IntEnum]) -> Names:
    return Names({each.value: each.name for each in kind if each.value}, char_name, np.int16)


def _type_name(code: int) -> str:
    if code >= SBE_TYPE:
        return str(code - SBE_TYPE)
    return code.to_bytes(2, "little").rstrip(b"\0").decode("latin-1")


def _texts(frames: np.ndarray, payload: np.ndarray, begins: np.ndarray, null: np.ndarray) -> pa.Array:
    """The texts that begin at ``begins`` in the raw messages and end with SOH; what is no UTF-8 is taken as Latin-1."""
    if null.all():
        return pa.nulls(len(frames), pa.string())
    starts = frames["payload_offset"].astype(np.int64) + begins
    lasts = frames["payload_offset"].astype(np.int64) + frames["payload_length"]
    ends = np.zeros(len(frames) + 1, np.int32)
    text_ends(payload, starts, lasts, null, ends)
    content = np.empty(int(ends[-1]), np.uint8)
    gather_texts(payload, starts, ends, content)
    binary = pa.Array.from_buffers(
        pa.binary(),
        len(frames),
        [pa.py_buffer(np.packbits(~null, bitorder="little")), pa.py_buffer(ends), pa.py_buffer(content)],
    )
    try:
        return binary.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([None if each is None else each.decode("latin-1") for each in binary.to_pylist()], pa.string())
