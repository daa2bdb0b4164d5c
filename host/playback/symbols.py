"""Symbols of SBE venues: messages have security ids alone, and definitions say which symbol is which."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from hdl.flow import Flow
from hdl.frame import Kind
from hdl.sbe_venue import Venue
from host.capture.packets import sliced
from host.capture.reader import Captures
from host.card import open_card
from host.market_data.definitions import Definition, MessageReader, read_definition

LOOKED_AT = 4096
"""Packets at a time."""

Codes = dict[str, list[int]]
"""By symbol, the codes that frames have for it: more than one where it was defined anew."""


def find_symbols(wanted: Iterable[str], captures: Captures, flows: Sequence[Flow], venue: Venue) -> Codes:
    """The symbols of an SBE venue's definitions, up to the one that is wanted last. A symbol that is not there is looked for in
    files to their end, in pipes at the beginning. Nothing is read where all of ``wanted`` are numbers, or the venue defines
    nothing. Raises CaptureError.
    """
    missing, found = {text for text in wanted if not text.isdigit()}, Codes()
    defines = any(venue.profile.rule_of((each.name,)).kind == Kind.DEFINITION for each in venue.schema.messages)
    if missing and defines:
        for definition in _definitions(captures, flows, venue):
            codes = found.setdefault(definition.symbol, [])
            codes.append(definition.instrument & (1 << 64) - 1)
            missing.discard(definition.symbol)
            if not missing:
                break
    return found


def _definitions(captures: Captures, flows: Sequence[Flow], venue: Venue) -> Iterator[Definition]:
    """The first definition of each instrument that has a symbol."""
    reader, known = MessageReader(venue.schema), set[int]()
    with open_card("soft:", flows, venue) as card:
        for packets in (part for each in captures.captures for part in sliced(each.preview(), LOOKED_AT)):
            done = 0
            while done < len(packets):
                done = card.feed(packets, done)
                while len(frames := card.ring.poll()):
                    for frame in _unknown(frames, known):
                        definition = read_definition(reader, card.ring.message(frame).tobytes())
                        if definition is not None and definition.symbol and definition.instrument not in known:
                            known.add(definition.instrument)
                            yield definition
                    card.ring.release(len(frames))


def _unknown(frames: np.ndarray, known: set[int]) -> np.ndarray:
    """Definitions of instruments that are not known: venues send the same ones again and again."""
    definitions = frames[frames["kind"] == Kind.DEFINITION]
    return definitions[[code not in known for code in definitions["instrument"].tolist()]]
