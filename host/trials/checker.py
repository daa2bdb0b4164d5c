"""Judges a gateway by its journal, by what its sessions got, and by what was sent. It shares no code with any of them:
the journal is read by the layout that docs/journal.md gives, and nothing else of the gateway is imported.
"""

import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SEGMENT_HEADER = struct.Struct("<8sIIQQQII12xI")
BATCH_HEADER = struct.Struct("<4sHHQQIIIIQII4xI")
HEADER, LINE, PAGE = 64, 64, 4096
FRAME, DECISION = 64, 16
PAYLOAD_AT, LENGTH_AT, FLOW_AT = 32, 36, 38
"""Offsets in a frame: payload_offset u32, payload_length u16, flow u16 (docs/frame.md)."""

ACCEPTED = 1
PARTIAL_FILL, FILL = 2, 3
MOST_SHOWN = 5


@dataclass
class Journaled:
    """Every order of a journal in sequence: (flow, ClOrdID) and verdict."""

    identities: list[tuple[int, bytes]] = field(default_factory=list)
    verdicts: list[int] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read(directory: Path) -> Journaled:
    """Read a whole journal; what does not hold together is among the faults."""
    found = Journaled()
    chain, number, sequence = 0, 0, 1
    for path in sorted(directory.glob("*.journal")):
        data = path.read_bytes()
        if not any(data[:HEADER]):
            continue  # made ahead, and not yet written to
        magic, _version, _segment, size, first_batch, first_sequence, head_chain, _gateway, crc = SEGMENT_HEADER.unpack(
            data[:HEADER]
        )
        if magic != b"TICKJRNL" or size != len(data) or zlib.crc32(data[: HEADER - 4]) != crc:
            found.faults.append(f"{path.name}: the segment's header is damaged")
            return found
        if (first_batch, first_sequence, head_chain) != (number, sequence, chain):
            found.faults.append(f"{path.name}: the segment does not follow the one before it")
            return found
        at = HEADER
        while True:
            if data[at : at + 4] != b"TKBT":
                at = -(-at // PAGE) * PAGE  # behind a batch that was not durable yet, the next one begins on a page
            if data[at : at + 4] != b"TKBT" or at + HEADER > len(data):
                break
            head = data[at : at + HEADER]
            _, _, kind, batch, first, count, payload_bytes, total, _, _, its_chain, body_crc, crc = BATCH_HEADER.unpack(
                head
            )
            body = data[at + HEADER : at + total]
            if zlib.crc32(head[: HEADER - 4]) != crc or zlib.crc32(body) != body_crc:
                break  # a torn end: nothing behind it
            if (batch, first, its_chain) != (number, sequence, chain):
                found.faults.append(f"{path.name}: byte {at}: batch {batch} does not follow the one before it")
                return found
            if kind == 0:
                _take(found, body, count, payload_bytes)
            chain, number, sequence = crc, number + 1, sequence + count
            at += -(-total // LINE) * LINE
        if any(data[at:]):
            found.faults.append(f"{path.name}: byte {at}: something stands behind the last whole batch")
    return found


def _take(found: Journaled, body: bytes, count: int, payload_bytes: int) -> None:
    decisions = count * FRAME
    payload = decisions + count * DECISION
    for index in range(count):
        frame = body[index * FRAME : (index + 1) * FRAME]
        offset, length, flow = struct.unpack_from("<IHH", frame, PAYLOAD_AT)
        message = body[payload + offset : payload + offset + length]
        if offset + length > payload_bytes:
            found.faults.append(f"order {len(found.verdicts) + 1} points outside its batch")
        found.identities.append((flow, client_order_id(message)))
        found.verdicts.append(body[decisions + index * DECISION])


def client_order_id(message: bytes) -> bytes:
    """Tag 11 of a FIX message; empty where it has none."""
    _, tag, rest = message.partition(b"\x0111=")
    return rest.partition(b"\x01")[0] if tag else b""


def frames_written(ring: Path) -> int:
    """How many frames a card's ring got ever, by docs/ring.md."""
    data = np.fromfile(ring, np.uint8)
    slots, offset = (int(word) for word in data[: 5 * 8].view("<u8")[[2, 4]])
    frames_read = int(data[128:136].view("<u8")[0])
    generations = data[offset + 63 : offset + slots * 64 : 64]
    number = max(frames_read - 1, 0)
    while int(generations[number % slots]) == (number // slots + 1) & 0xFF:
        number += 1
    return number


def judge(
    directory: Path, sent: int, identity: Callable[[int], tuple[int, bytes]], reports: Iterable[np.ndarray]
) -> list[str]:
    """What is wrong; empty if nothing is.

    ``sent`` orders were written into the ring, number n of which is ``identity(n)`` (flow, ClOrdID); ``reports`` are the
    records that sessions got (their fields are read by name: docs/serve.md).
    """
    journaled = read(directory)
    faults = list(journaled.faults)
    expected = [identity(number) for number in range(sent)]
    if journaled.identities != expected:
        faults += _differences(journaled.identities, expected)
    seen: Counter[tuple[int, int, int]] = Counter()
    answered: set[int] = set()
    executions: defaultdict[tuple[int, int], list[tuple[int, int, int]]] = defaultdict(list)
    filled: Counter[int] = Counter()
    cumulative: Counter[int] = Counter()
    total = 0
    for some in reports:
        total += len(some)
        report = some["report"]
        names = (
            "sequence",
            "order_sequence",
            "node",
            "execution",
            "price",
            "quantity",
            "cumulative",
            "kind",
            "side",
            "flow",
        )
        columns = [report[name].tolist() for name in names]
        for batch, ordinal, verdict, row in zip(
            some["batch"].tolist(), some["ordinal"].tolist(), some["verdict"].tolist(), zip(*columns, strict=True), strict=True
        ):  # fmt: skip
            sequence, order, node, execution, price, quantity, cumulated, kind, side, _flow = row
            seen[batch, node, ordinal] += 1
            answered.add(sequence)
            if not 1 <= sequence <= len(journaled.verdicts):
                faults.append(f"order {sequence} was acknowledged and is not in the journal")
            elif (verdict == ACCEPTED) != (journaled.verdicts[sequence - 1] == ACCEPTED):
                faults.append(f"order {sequence} was answered otherwise than the journal says")
            if kind in (PARTIAL_FILL, FILL):
                executions[node, execution].append((price, quantity, side))
                # Whichever nodes its book was on meanwhile.
                filled[order] += quantity
                cumulative[order] = max(cumulative[order], cumulated)
    faults += [
        f"report {ordinal} of batch {batch} and node {node} came {count} times"
        for (batch, node, ordinal), count in seen.items()
        if count > 1
    ]
    if missing := sorted(set(range(1, len(journaled.verdicts) + 1)) - answered):
        faults.append(f"{len(missing)} orders were never answered, the first is {missing[0]}")
    for (node, execution), sides in executions.items():
        if len(sides) != 2 or sides[0][:2] != sides[1][:2] or (sides[0][2] == 49) == (sides[1][2] == 49):
            faults.append(f"trade {execution} of node {node} was not reported once to each side")
    faults += [
        f"order {order} was filled {quantity}, and its reports say {cumulative[order]}"
        for order, quantity in filled.items()
        # A replaced order's earlier fills were reported under its former sequence.
        if quantity > cumulative[order]
    ]
    return faults


def _differences(found: list[tuple[int, bytes]], expected: list[tuple[int, bytes]]) -> list[str]:
    place = next(
        (n for n, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), min(len(found), len(expected))
    )
    lines = [f"{len(found)} orders in the journal, {len(expected)} were sent; they differ from order {place + 1} on"]
    twice = len(found) - len(set(found)) - (len(expected) - len(set(expected)))
    if twice > 0:
        lines.append(f"{twice} orders are in the journal more often than they were sent")
    return lines


def shown(faults: list[str]) -> str:
    """The first faults, and how many more there are."""
    more = f"\n… and {len(faults) - MOST_SHOWN} more" if len(faults) > MOST_SHOWN else ""
    return "\n".join(faults[:MOST_SHOWN]) + more
