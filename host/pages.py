"""Writes the pages of docs/ that are made from tables in hdl/ and host/: ``python -m host.pages``, or ``make docs``.

``--check`` writes nothing and fails where a page is not what its table gives.
"""

import argparse
import ast
import enum
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from bitstreams import manifest
from hdl import ethernet_frame, frame, limits, link_frame, register_map, ring_layout
from hdl.boards import BOARDS
from hdl.link_frame import Down, Up
from hdl.registers import COUNTER_LAG
from host.serve.config import KEYS, KIND_TEXT, TABLES, Key
from host.serve.status import FIGURES

DOCS = Path(__file__).resolve().parent.parent / "docs"

STALE = 1

CELL = 16
"""Characters of a byte in a byte map, its left border included."""

ROW_BYTES = 4
"""Bytes of a byte map's row."""

RING_HEADER_MEANING = {
    "magic": "the letters TICKRING",
    "version": "of this layout; a reader refuses one that it does not know",
    "frame_slots": "slots of the frame ring, a power of two",
    "payload_bytes": "bytes of the payload ring, a power of two",
    "frames_offset": "where the frame ring begins in the file, in bytes",
    "payload_offset": "where the payload ring begins in the file, in bytes",
    "frames_read": "credit: frames that the host has released, ever",
    "payload_read": "credit: bytes of the payload ring that the host has released, ever",
}


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _page(title: str, source: str, *parts: str) -> str:
    note = f"<!-- Made from {source} by `make docs`; change it there. -->"
    return "\n\n".join([f"# {title}", note, *parts]) + "\n"


def _code(text: object) -> str:
    return f"`{text}`"


def byte_map(fields: Sequence[frame.Field], first: int, end: int) -> str:
    """A drawing of bytes ``first`` to ``end``, four a row; a field that goes on in the next row is not closed below."""
    owner = {byte: field for field in fields for byte in range(field.offset, field.offset + field.bits // 8)}

    def line(row: int) -> str:
        """The border above the row that begins at byte ``row``."""
        text, closed = "", False
        for byte in range(row, row + ROW_BYTES):
            above, below = owner.get(byte - ROW_BYTES), owner.get(byte)
            closes = row in (first, end) or above != below
            text += "+" if closes or closed or byte == row else " "
            text += ("-" if closes else " ") * (CELL - 1)
            closed = closes
        return text + "+"

    lines = [" " * 5 + "".join(f"{byte:^{CELL}}" for byte in range(ROW_BYTES))]
    for row in range(first, end, ROW_BYTES):
        cells = ""
        for byte in range(row, row + ROW_BYTES):
            field = owner[byte]
            if byte != row and owner[byte - 1] == field:
                continue
            width = CELL * sum(owner[other] == field for other in range(row, row + ROW_BYTES)) - 1
            cells += "|" + f"{field.name if byte == field.offset else '':^{width}}"
        lines += [" " * 5 + line(row), f"{row:>4} {cells}|"]
    lines.append(" " * 5 + line(end))
    return "```text\n" + "\n".join(each.rstrip() for each in lines) + "\n```"


def _view(name: str) -> list[frame.Field]:
    return [field for field in frame.FIELDS if field.view in ("both", name)]


def _type(field: frame.Field) -> str:
    return f"{'i' if field.signed else 'u'}{field.bits}"


def _meanings(meaning: dict) -> str:
    rows = [(int(value), _code(value.name), text) for value, text in meaning.items()]
    return _table(("value", "name", "meaning"), rows)


def _characters(kind: type[enum.IntEnum]) -> str:
    """The values of an enum of characters; a character stands for itself on the wire."""
    rows = [(int(value), _code(chr(value)) if value else "", _code(value.name)) for value in kind]
    return _table(("value", "character", "name"), rows)


def frame_page() -> str:
    """docs/frame.md."""
    fields = [
        (field.offset, field.bits // 8, _code(field.name), _type(field), field.unit, field.view, field.meaning)
        for field in frame.FIELDS
    ]
    differing = [field for field in frame.FIELDS if field.view != "both"]
    first = min(field.offset for field in differing) // ROW_BYTES * ROW_BYTES
    end = max(field.offset + field.bits // 8 for field in differing)
    flags = [
        (
            flag.value.bit_length() - 1,
            _code(flag.name),
            "yes" if flag & frame.MALFORMED_FLAGS else "",
            frame.FLAG_MEANING[flag],
        )
        for flag in frame.Flag
    ]
    codes = [(_code(symbol), _code(f"0x{frame.crc64(symbol.encode()):016x}")) for symbol in ("ESZ5", "BTC-PERPETUAL")]
    market_data = ", ".join(_code(kind.name) for kind in frame.MARKET_DATA)
    return _page(
        "The frame",
        "hdl/frame.py",
        f"A frame is what the card tells the host of one message, or of one entry of a message: {frame.FRAME_BYTES} bytes, "
        "little endian, one cache line. The Amaranth layout (`hdl.frame.frame_layout()`) and the NumPy dtype "
        "(`hdl.frame.FRAME_DTYPE`) come from the same table as this page. [fix.md](fix.md) and [sbe.md](sbe.md) say how "
        "each field is filled, [ring.md](ring.md) how a frame reaches the host.",
        "## Bytes\n\nThe order view:",
        byte_map(_view("order"), 0, frame.FRAME_BYTES),
        f"The market data view differs within bytes {first} to {end - 1}:",
        byte_map(_view("market data"), first, end),
        f"The market data view holds for the kinds {market_data}, the order view for the others; for `SESSION`, `OTHER` and "
        "`MALFORMED` the flow's parser decides (SBE: market data, FIX: order).",
        "## Fields",
        _table(("offset", "bytes", "field", "type", "unit", "view", "meaning"), fields),
        f"So a price of 1 is {10**frame.PRICE_DECIMALS:,} and a quantity of 1 is {10**frame.QUANTITY_DECIMALS:,}. A `flow` of "
        f"{frame.NO_FLOW:#06x} is no flow.",
        "## `kind`",
        _meanings(frame.KIND_MEANING),
        "## `flags`\n\nOne bit a cause. A message with a flag that is marked has kind `MALFORMED`.",
        _table(("bit", "name", "malformed", "meaning"), flags),
        "## `side`, `order_type`, `time_in_force`\n\nThe FIX character; one that is not listed is passed on as it came.",
        *(
            f"`{name}`:\n\n{_characters(kind)}"
            for name, kind in (
                ("side", frame.Side),
                ("order_type", frame.OrderType),
                ("time_in_force", frame.TimeInForce),
            )
        ),
        "## `instrument` of a FIX message\n\nThe CRC-64 of the symbol's text: polynomial x^64 + x^4 + x^3 + x + 1 (ISO 3309), "
        "most significant bit first, initial value 0, no final inversion (`hdl.frame.crc64`). So a symbol of up to eight "
        "characters is its own code, its text as a big-endian number.",
        _table(("symbol", "instrument"), codes),
    )


def registers_page() -> str:
    """docs/registers.md."""

    def rows(registers: Iterable[register_map.Register]) -> list[tuple[object, ...]]:
        return [(each.address, _code(each.name), each.access, each.meaning) for each in registers]

    singles = [each for each in register_map.REGISTERS if each.rows == 1]
    flow_table = [each for each in register_map.REGISTERS if each.rows > 1]
    head = ("number", "register", "access", "meaning")
    stride = register_map.ROW_STRIDE
    return _page(
        "Registers",
        "hdl/register_map.py",
        "The card's registers have 64 bits each and are addressed by number. Settings are 0 at reset and cannot be read back: "
        "they, and numbers without a register, read as 0. No register is read on the hot path: frames come through the "
        "[rings](ring.md).",
        "## Identity and rings",
        _table(head, rows(each for each in singles if each.name not in register_map.COUNTERS)),
        f"`identity` reads {register_map.IDENTITY:#018x} (the first letter in the low byte), `version` {register_map.VERSION}.",
        f"## Counters\n\nSince reset. Every card reports them by these names, in this order. A counter says what was {COUNTER_LAG} cycles "
        "before.",
        _table(head, rows(each for each in singles if each.name in register_map.COUNTERS)),
        f"## Flow table\n\n{flow_table[0].rows} rows. Row n stands at the number below plus {stride} × n; the lowest row that fits "
        "a packet counts ([ethernet.md](ethernet.md)).",
        _table(head, rows(flow_table)),
    )


def ring_header_page() -> str:
    """docs/ring_header.md."""
    fields = ring_layout.HEADER_DTYPE.fields
    assert fields is not None
    rows = [
        (offset, kind.itemsize, _code(name), RING_HEADER_MEANING[name])
        for name, (kind, offset, *_) in sorted(fields.items(), key=lambda entry: entry[1][1])
    ]
    return _page(
        "The ring file's header",
        "hdl/ring_layout.py",
        f"The file of the two [rings](ring.md) begins with a header of {ring_layout.HEADER_BYTES} bytes. All fields are unsigned, "
        f"little endian; bytes that are not listed are 0. The version is {ring_layout.RING_VERSION}.",
        _table(("offset", "bytes", "field", "meaning"), rows),
        f"The credits stand on cache lines of their own: the host writes them, the card reads them; neither wraps. Raw messages "
        f"begin on lines of {ring_layout.LINE_BYTES} bytes.",
    )


def documented_constants(source: str) -> list[tuple[str, str]]:
    """The constants of a module and the string that stands below each, in their order."""
    found: list[tuple[str, str]] = []
    for assignment, below in pairwise(ast.parse(source).body):
        match assignment, below:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str() as text)):
                found.append((name, text))
    return found


def limits_page() -> str:
    """docs/limits.md."""
    source = Path(str(limits.__file__)).read_text(encoding="utf-8")
    rows = [
        (_code(name), f"{getattr(limits, name):,}", " ".join(meaning.split()))
        for name, meaning in documented_constants(source)
    ]
    return _page(
        "Limits of the card",
        "hdl/limits.py",
        "What is beyond a limit is flagged, counted or refused, never cut off silently.",
        _table(("limit", "value", "meaning"), rows),
        "The gateway's limits stand in [gateway.md](gateway.md#limits), the rings' least sizes in [ring.md](ring.md).",
    )


def eth_frames_page() -> str:
    """docs/eth_frames.md."""

    def layout(fields: dict[str, int], first: int, different: dict[str, str]) -> str:
        meanings = ethernet_frame.MEANING | different
        rows = [
            (at, fields[name] // 8, _code(name), meanings[name])
            for name, at in link_frame.offsets(fields, first).items()
        ]
        return _table(("offset", "bytes", "field", "meaning"), rows)

    kinds = [Down.OPEN, Down.POLL, Down.WRITE, Down.READ, Down.START, Down.MARK]
    behind = ethernet_frame.ETHERNET_BYTES
    return _page(
        "Frames of the Ethernet link",
        "hdl/ethernet_frame.py",
        f"An Ethernet frame begins with two addresses of 6 bytes and the EtherType {ethernet_frame.ETHERTYPE:#06x} (IEEE 802's local "
        f"experimental EtherType 1), highest byte first. Behind that, from byte {behind} on, all is little endian. [eth.md](eth.md) says what the "
        f"frames do. The link's version is {ethernet_frame.LINK_VERSION}.",
        "## From the host",
        layout(ethernet_frame.DOWN_HEADER | ethernet_frame.REGISTER_BODY, behind, ethernet_frame.DIFFERENT_DOWN),
        _table(("kind", "name"), [(int(kind), _code(kind.name)) for kind in kinds]),
        "## From the board",
        layout(ethernet_frame.UP_HEADER, behind, ethernet_frame.DIFFERENT_UP),
        f"The kind is {int(Up.LINES)}, `{Up.LINES.name}`. Lines follow, at most {ethernet_frame.MOST_LINES}, each:",
        layout(ethernet_frame.LINE_BODY, 0, {}),
        f"A board without another address has {ethernet_frame.BOARD_MAC.to_bytes(6, 'big').hex(':')}.",
    )


def board_list_page() -> str:
    """docs/board_list.md."""
    built = {(entry.board, entry.interface): entry for entry in manifest.load()}

    def rows() -> Iterable[tuple[object, ...]]:
        for board in BOARDS.values():
            for way in board.ways:
                entry = built.get((board.name, way.interface))
                yield (
                    _code(board.name),
                    board.device,
                    way.interface,
                    way.parsers_text,
                    way.flows,
                    f"{way.clock_hz / 1e6:g} MHz",
                    "-" if entry is None else entry.luts_text,
                    "-" if entry is None else ", ".join(map(str, entry.clocks.values())),
                )

    head = ("board", "chip", "interface", "parsers that fit", "flows", "card's clock", "LUTs", "MHz reached, of")
    return _page(
        "Boards and their bitstreams",
        "hdl/boards/ and bitstreams/manifest.json",
        "What is in `bitstreams/` has LUTs and MHz; every other row is for `tickgate build`. [boards.md](boards.md) says how all of it is used.",
        _table(head, rows()),
    )


def serve_config_page() -> str:
    """docs/serve_config.md."""

    def default(key: Key) -> str:
        return "must be there" if key.needed else "" if key.default is None else _code(json.dumps(key.default))

    parts: list[str] = []
    for table in TABLES:
        rows = [
            (_code(key.name), KIND_TEXT[key.kind], default(key), _bounds(key.least, key.most), key.meaning)
            for key in KEYS
            if key.table == table
        ]
        parts += [f"## [{table}]", _table(("key", "type", "default", "range", "meaning"), rows)]
    return _page(
        "The configuration of `tickgate serve`",
        "host/serve/config.py",
        "A TOML file. Paths in it count from its own folder. What is no key is refused. [serve.md](serve.md) has an example.",
        *parts,
        "## What modules count",
        "In `--json`, by these names. Counts begin with the module's process, but for `sequence`, `applied`, `trades` and `batches`.",
        _table(("name", "meaning"), [(_code(name), meaning) for name, meaning in FIGURES.items()]),
    )


def _bounds(least: int | None, most: int | None) -> str:
    if least is None:
        return ""
    return f"{least:,} or more" if most is None else f"{least:,} to {most:,}"


PAGES: dict[str, Callable[[], str]] = {
    "frame.md": frame_page,
    "registers.md": registers_page,
    "ring_header.md": ring_header_page,
    "limits.md": limits_page,
    "eth_frames.md": eth_frames_page,
    "board_list.md": board_list_page,
    "serve_config.md": serve_config_page,
}


def stale() -> list[str]:
    """The pages that are not what their tables give."""
    return [
        name
        for name, make in PAGES.items()
        if not (DOCS / name).is_file() or (DOCS / name).read_text(encoding="utf-8") != make()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or check them, as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m host.pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a page is stale")
    options = parser.parse_args(arguments)
    names = stale()
    for name in names:
        if options.check:
            print(f"docs/{name} is not what its table gives: make docs", file=sys.stderr)
        else:
            (DOCS / name).write_text(PAGES[name](), encoding="utf-8")
            print(f"wrote docs/{name}")
    return STALE if options.check and names else 0


if __name__ == "__main__":
    sys.exit(main())
