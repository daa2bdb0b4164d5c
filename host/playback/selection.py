"""What of the captures is wanted: channels and times before the card, instruments and templates behind it."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType

import numpy as np

from hdl.flow import ANYWHERE, Flow, Parser
from hdl.frame import crc64
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.sbe.full_decode import Decoded, Table
from host.sbe.layout import TableLayout, table_layouts

MOST_LISTED = 20
"""Names that a refusal lists."""


class SelectionError(ValueError):
    """Something is asked for that there is not; one line that says what there is."""


@dataclass(frozen=True)
class Selection:
    """What is wanted; whatever is empty or None leaves nothing out.

    Attributes:
        instruments: security ids, or symbols where the venue has these.
        templates: by name or id.
        channels: destinations, ``ADDRESS:PORT``.
        start, end: ns since 1970, of packets: from ``start`` on, before ``end``.
    """

    instruments: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None

    def flows(self, flows: Sequence[Flow]) -> list[Flow]:
        """The rows of a flow table that are wanted. Raises SelectionError for a channel that there is not."""
        names = [str(flow.destination) for flow in flows]
        for channel in self.channels:
            if channel not in names:
                raise SelectionError(f"there is no channel {channel}; there are {_listed(sorted(set(names)))}")
        return [flow for flow, name in zip(flows, names, strict=True) if not self.channels or name in self.channels]

    def packets(self, batches: Iterable[Packets]) -> Iterator[Packets]:
        """The packets of the times that are wanted."""
        if self.start is None and self.end is None:
            yield from batches
            return
        first, last = np.uint64(self.start or 0), np.uint64(2**64 - 1 if self.end is None else self.end)
        for packets in batches:
            within = (packets.timestamp >= first) & (packets.timestamp < last)
            if within.all():
                yield packets
            elif within.any():
                yield packets.take(np.flatnonzero(within))


EVERYTHING = Selection()


class Chooser:
    """A :class:`Selection` of a venue's messages; ``symbols`` are what its definitions say (host/playback/symbols.py). Raises
    SelectionError for a template that there is not."""

    def __init__(
        self,
        selection: Selection,
        venue: Venue | None,
        flows: Sequence[Flow],
        symbols: Mapping[str, Sequence[int]] = MappingProxyType({}),
    ) -> None:
        self.selection = selection
        self._sbe = np.zeros(1 << 16, bool)
        self._sbe[: len(flows)] = [flow.parser is Parser.SBE for flow in flows]
        self._template_ids, self._template_names = _templates(selection.templates, venue)
        self._texts = [text.encode() for text in selection.instruments]
        numbers = [int(text) for text in selection.instruments if text.isdigit() and int(text) < 1 << 64]
        numbers += [code for text in selection.instruments for code in symbols.get(text, ())]
        self._symbols = sorted(symbols)
        self._codes = np.array(sorted({*numbers, *map(crc64, self._texts)}), np.uint64)
        self._numbers = np.array(numbers, np.uint64)
        self._columns = _instrument_columns(venue) if selection.instruments and venue is not None else {}
        self.met = not selection.instruments
        """Whether an instrument that is wanted was met."""
        self._seen: set[int] = set()

    @property
    def leaves_out(self) -> bool:
        """Whether frames may be left out."""
        return bool(self.selection.instruments or self.selection.templates)

    def wants_table(self, name: str) -> bool:
        """Whether a table is of a template that is wanted."""
        return self._template_names is None or name.partition(".")[0] in self._template_names

    def frames(self, frames: np.ndarray) -> np.ndarray:
        """The frames that are wanted: the same array where that is all of them, else a copy."""
        if self._template_names is not None:
            wanted = np.isin(frames["message_type"], self._template_ids) & self._sbe[frames["flow"]]
            frames = frames[wanted]
        if (wanted := self.wanted(frames["instrument"])) is not None:
            self._note(wanted, frames["instrument"])
            frames = frames[wanted]
        return frames

    def wanted(self, instruments: np.ndarray) -> np.ndarray | None:
        """By code, as frames have them, whether it is of an instrument that is wanted; None where all are."""
        return np.isin(instruments, self._codes) if len(self._codes) else None

    def _note(self, wanted: np.ndarray, instruments: np.ndarray) -> None:
        """Remember that what is wanted came, or else some of what came instead."""
        self.met = self.met or bool(wanted.any())
        if not self.met and len(self._seen) < MOST_LISTED:
            self._seen.update(np.unique(instruments[instruments != 0])[:MOST_LISTED].tolist())

    def decoded(self, decoded: Decoded) -> Decoded:
        """The rows that are wanted. Of instruments: entries of them, the messages around these, and what of those messages
        names no instrument."""
        if self._template_names is None and not len(self._codes):
            return decoded
        tables = {
            name: table if self.wants_table(name) else Table(table.layout, table.rows[:0])
            for name, table in decoded.tables.items()
        }
        if len(self._codes):
            roots = [name for name, table in tables.items() if table.layout.parent is None]
            tables = {name: table for root in roots for name, table in self._of_instruments(root, tables).items()}
        return replace(decoded, tables=tables)

    def check_met(self) -> None:
        """Raise SelectionError where none of the instruments came."""
        if not self.met:
            names = self._symbols or list(map(str, sorted(self._seen)))
            there = f"there are {_listed(names)}" if names else "there is none"
            raise SelectionError(f"no message is of instrument {' or '.join(self.selection.instruments)}; {there}")

    def _own(self, table: Table) -> np.ndarray | None:
        """By row, whether it is of a wanted instrument; None where rows do not say of which they are."""
        column = self._columns.get(table.name)
        if column is None:
            return None
        values = table.rows[column]
        known = ~table.is_null(column)
        if values.dtype.kind == "S":
            found = np.isin(values, self._texts) & known
        else:
            found = np.isin(values, self._numbers) & known
            self._note(found, values[known])
        self.met |= bool(found.any())
        return found

    def _of_instruments(self, root: str, tables: dict[str, Table]) -> dict[str, Table]:
        its = {name: table for name, table in tables.items() if name.partition(".")[0] == root}
        wanted = {name: own for name, table in its.items() if (own := self._own(table)) is not None}
        # Up: a block that does not say it itself is wanted for what is below it.
        for name in reversed(its):
            parent = its[name].layout.parent
            if parent is None or name not in wanted or self._columns.get(parent) is not None:
                continue
            above = wanted.setdefault(parent, np.zeros(len(its[parent]), bool))
            above[its[name].rows["@parent"][wanted[name]].astype(np.int64)] = True
        # Down: what is below a block that is left out goes with it.
        kept: dict[str, Table] = {}
        places: dict[str, np.ndarray] = {}
        for name, table in its.items():
            keep = wanted.get(name, np.full(len(table), table.layout.parent is not None))
            if (parent := table.layout.parent) is not None:
                above = table.rows["@parent"].astype(np.int64)
                keep = keep & (places[parent][above] >= 0)
            places[name] = np.where(keep, np.cumsum(keep) - 1, -1)
            rows = table.rows[keep]
            if parent is not None:
                rows["@parent"] = places[parent][above[keep]]
            kept[name] = Table(table.layout, rows)
        return kept


def channel_name(flow: Flow) -> str:
    """A flow as text: its destination, and its source where that is part of it."""
    destination = str(flow.destination)
    return destination if flow.source == ANYWHERE else f"{flow.source}-{destination}"


def parse_time(text: str) -> int:
    """ns since 1970 of a time in ISO 8601 (UTC unless it says otherwise) or of a whole number, which is that already.
    Raises SelectionError."""
    if text.isdigit() and int(text) < 1 << 64:
        return int(text)
    head, point, rest = text.partition(".")
    fraction = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    try:
        moment = datetime.fromisoformat(head + rest[len(fraction) :])
        if bool(point) == (0 < len(fraction) <= 9):
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = int(moment.timestamp())
            return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0)
    except (ValueError, OverflowError):
        pass
    raise SelectionError(f"'{text}' is no time; give 2026-03-02T14:30:00.5 (UTC) or nanoseconds since 1970")


def _templates(wanted: Sequence[str], venue: Venue | None) -> tuple[list[int], frozenset[str] | None]:
    """Ids and names of the templates that are wanted; no names at all where everything is."""
    if not wanted:
        return [], None
    if venue is None:
        raise SelectionError("templates are those of a schema: give one with --schema")
    messages = venue.schema.messages
    ids, names = [], []
    for text in wanted:
        message = next((each for each in messages if text in (each.name, str(each.id))), None)
        if message is None:
            every = [each.name for each in messages]
            near = difflib.get_close_matches(text, every, 3, 0.5) or every
            raise SelectionError(f"{venue.schema.path} has no template {text}; there are {_listed(near)}")
        ids.append(message.id)
        names.append(message.name)
    return ids, frozenset(names)


def _instrument_columns(venue: Venue) -> dict[str, str]:
    """By table, the column that says of which instrument a row is: the first that the profile names for it."""
    candidates = dict(venue.profile.fields).get("instrument", ())
    found: dict[str, str] = {}
    for layout in table_layouts(venue.schema):
        for candidate in candidates:
            name = _column(layout, candidate.field)
            if name is not None:
                found[layout.name] = name
                break
    return found


def _column(layout: TableLayout, wanted: str | int) -> str | None:
    names = {leaf.name for leaf in layout.leaves}
    return next(
        (field.name for field in layout.block.fields if wanted in (field.name, field.id) and field.name in names), None
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more
