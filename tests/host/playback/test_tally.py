"""Counting what comes out of the card."""

import numpy as np

from hdl.flow import Endpoint, Flow, Parser, Protocol
from hdl.frame import FRAME_DTYPE, Kind
from host.playback.tally import Tally

FLOWS = [
    Flow(Protocol.TCP, Endpoint(1, 1), Parser.FIX),
    Flow(Protocol.UDP, Endpoint(2, 2), Parser.SBE),
]


def frame(flow: int, offset: int, length: int, message_type: int, kind: Kind, entry: int = 0) -> np.ndarray:
    one = np.zeros(1, FRAME_DTYPE)
    one["flow"], one["payload_offset"], one["payload_length"] = flow, offset, length
    one["message_type"], one["kind"], one["entry_offset"] = message_type, kind, entry
    return one


def counted(*frames: np.ndarray, slices: int = 1) -> Tally:
    tally = Tally(FLOWS, {32: "Book"})
    ring = np.zeros(len(frames), FRAME_DTYPE)
    for index, each in enumerate(frames):
        ring[index : index + 1] = each
    for part in np.array_split(np.arange(len(ring)), slices):
        tally.add(ring[part[0] : part[-1] + 1])
    return tally


BOOK = [frame(1, 64, 90, 32, Kind.BOOK_UPDATE, entry) for entry in (22, 54)]


def test_the_entries_of_a_message_are_one_message_wherever_the_ring_is_sliced():
    for slices in (1, 2):
        (row,) = counted(*BOOK, slices=slices).by_type()
        assert (row.parser, row.message_type, row.name) == (Parser.SBE, "32", "Book")
        assert (row.messages, row.entries, row.frames) == (1, 2, 2)


def test_equal_messages_at_other_places_are_two():
    (row,) = counted(*BOOK, frame(1, 192, 90, 32, Kind.BOOK_UPDATE, 22)).by_type()
    assert (row.messages, row.frames) == (2, 3)


def test_malformed_messages_count_their_bytes_but_have_no_type():
    tally = counted(frame(0, 0, 50, ord("D"), Kind.MALFORMED), frame(0, 64, 70, ord("8"), Kind.EXECUTION))
    assert [(row.message_type, row.name, row.messages) for row in tally.by_type()] == [("8", "ExecutionReport", 1)]
    assert tally.payload_bytes(Parser.FIX) == 120
    assert tally.messages == 1


def test_gaps_count_their_bytes_but_are_no_messages():
    gaps = [frame(0, 0, 50, ord("D"), Kind.GAP), *[frame(0, 64, 0, 0, Kind.GAP)] * 2]
    tally = counted(*gaps, frame(0, 64, 70, ord("8"), Kind.EXECUTION))
    assert [(row.message_type, row.messages, row.frames) for row in tally.by_type()] == [("8", 1, 1)]
    assert tally.payload_bytes(Parser.FIX) == 120


def test_the_entries_of_a_fix_message_are_one_message():
    book = [frame(0, 64, 90, ord("W"), Kind.BOOK_UPDATE, entry) for entry in (22, 54, 70)]
    (row,) = counted(*book).by_type()
    assert (row.message_type, row.messages, row.entries, row.frames) == ("W", 1, 3, 3)


def test_messages_of_no_bytes_are_each_their_own():
    tally = counted(*[frame(1, 128, 0, 0, Kind.OTHER)] * 3)
    assert tally.messages == 3


def test_message_types_of_two_characters_are_shown_as_text():
    (row,) = counted(frame(0, 0, 50, ord("A") | ord("E") << 8, Kind.OTHER)).by_type()
    assert row.message_type == "AE"
