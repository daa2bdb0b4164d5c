"""The table in docs/fix.md, "Garbled input": what it says comes out of both cards, however the input is cut."""

import re
from typing import NamedTuple

import pytest

from hdl.frame import Flag, Kind
from hdl.sources import ROOT
from tests.cards.comparison import Reading, reading_of_equal_cards
from tests.cards.fix_grammar import SOH, message
from tests.cards.fix_packets import fix_packet, timed

ROW = re.compile(r"^\| (?P<what>.+?) \| `(?P<input>.+)` \| (?P<frames>.+?) \|$", re.MULTILINE)
HEARTBEAT = message(b"35=0\x01", b"8=FIX.4.4\x01")
NOT_LISTED = Flag.PRICE_ABSENT | Flag.QUANTITY_ABSENT

HOLES = 0xE000
"""In text that is being built, character HOLES + n stands for a hole of n bytes (a private use area of Unicode)."""


class Example(NamedTuple):
    """A row of the table."""

    what: str
    text: str
    frames: list[tuple[Kind, Flag]]


def frame_of(words: str) -> tuple[Kind, Flag]:
    """Kind and flags as the table has them."""
    kind, *flags = words.strip("`").split()
    return Kind[kind], Flag(sum(Flag[flag] for flag in flags))


def table() -> list[Example]:
    """The page's rows."""
    page = (ROOT / "docs" / "fix.md").read_text()
    section = page.partition("## Garbled input\n")[2].partition("\n## ")[0]
    return [
        Example(row["what"], row["input"].replace("\\|", "|"), [frame_of(words) for words in row["frames"].split(", ")])
        for row in ROW.finditer(section)
    ]


def without_holes(text: str) -> bytes:
    """The bytes of text that is being built."""
    return "".join(character for character in text if ord(character) < HOLES).encode("latin-1")


def built(text: str) -> list[tuple[bytes, int]]:
    """The input that the table's notation stands for: runs of bytes, each with the size of the hole behind it."""
    text = re.sub(r"\{(.)×(\d+)\}", lambda found: found[1] * int(found[2]), text.replace("|", "\x01"))
    text = re.sub(r"\{hole (\d+)\}", lambda found: chr(HOLES + int(found[1])), text)
    while found := re.search(r"\{L([+-]\d+)?\}", text):
        body = text[found.end() :].partition("\x01")[2].partition("10={S")[0]
        text = text[: found.start()] + str(len(without_holes(body)) + int(found[1] or 0)) + text[found.end() :]
    while found := re.search(r"\{S([+-]\d+)?\}", text):
        end = found.start() - len("10=")
        begin = text.rfind("\x018=FIX", 0, end) + 1
        head = without_holes(text[begin:end])
        text = text[: found.start()] + f"{(sum(head) + int(found[1] or 0)) % 256:03}" + text[found.end() :]
    parts = [*re.split(f"([{chr(HOLES)}-{chr(HOLES + 4095)}])", text), chr(HOLES)]
    return [(part.encode("latin-1"), ord(hole) - HOLES) for part, hole in zip(parts[::2], parts[1::2], strict=True)]


def read(runs: list[tuple[bytes, int]], size: int) -> Reading:
    """What both cards make of it, in packets of ``size`` bytes, with a heartbeat behind."""
    packets, sequence = [], 0
    *before, (last, _) = runs
    for run, hole in (*before, (last + HEARTBEAT, 0)):
        for at in range(0, len(run), size):
            packets.append(fix_packet(0, run[at : at + size], sequence + at))
        sequence += len(run) + hole
    return reading_of_equal_cards(timed(packets))


def test_the_table_is_there():
    assert len(table()) > 60
    assert len({example.what for example in table()}) == len(table())


def test_the_notation_is_built_as_the_page_says():
    whole = built("8=FIX.4.4|9={L}|35=0|10={S}|")
    assert whole == [(HEARTBEAT, 0)]
    assert built("9={L+1}|{x×3}|{hole 5}y|10={S") == [(b"9=7" + SOH + b"xxx" + SOH, 5), (b"y" + SOH + b"10={S", 0)]


@pytest.mark.parametrize("example", table(), ids=lambda example: example.what)
def test_garbled_input_gives_the_frames_of_the_table(example):
    runs = built(example.text)
    for size in (9000, 8, 1):
        reading = read(runs, size)
        found = [(Kind(frame["kind"]), Flag(int(frame["flags"])) & ~NOT_LISTED) for frame in reading.frames]
        assert found == [*example.frames, (Kind.SESSION, Flag(0))]
