"""The reader of captures beside dpkt: finding packets in memory, and all of it from a file."""

import io
import struct
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import dpkt
import numpy as np

from host.bench.market_data import MarketData
from host.bench.measure import Row, compare, timed
from host.capture import pcap, pcapng
from host.capture.packets import Packets
from host.capture.reader import open_captures
from host.capture.records import FULL, Rows
from host.capture.source import WINDOW_BYTES
from host.capture.write import write_pcap

PACKETS = 500_000
"""Packets of the capture that is indexed: larger than any cache."""
PEER_PACKETS = 20_000


def index_rows(data: MarketData) -> list[Row]:
    """Packets a second of the index pass in memory, window by window as the reader has them; dpkt's readers go through
    the same bytes."""
    return [_pcap_row(data), _pcapng_row(data)]


def batches_row(data: MarketData) -> Row:
    """Packets a second from a file (in the page cache) to batches that a card can be fed with: read, indexed, looked at for
    fragments and TCP; the peer reads the file and parses Ethernet, IP and UDP or TCP."""
    with tempfile.TemporaryDirectory() as folder:
        path, short = Path(folder) / "many.pcap", Path(folder) / "few.pcap"
        path.write_bytes(pcap_bytes(data.packets, PACKETS))
        short.write_bytes(pcap_bytes(data.packets, PEER_PACKETS))

        def with_dpkt() -> int:
            with short.open("rb") as file:
                return sum(1 for _, packet in dpkt.pcap.Reader(file) if dpkt.ethernet.Ethernet(packet))

        return compare(
            "capture.batches.packets_per_s",
            "packets/s",
            timed(lambda: sum(map(len, open_captures([path]).batches()))),
            "dpkt, headers parsed",
            timed(with_dpkt),
        )


def _pcap_row(data: MarketData) -> Row:
    content = np.frombuffer(pcap_bytes(data.packets, PACKETS), np.uint8).copy()
    few = pcap_bytes(data.packets, PEER_PACKETS)

    def index(window: np.ndarray, at: int, rows: Rows) -> tuple[int, int, int]:
        return pcap.index_pcap(window, at, False, 1, rows.offset, rows.length, rows.timestamp)

    return _index_row(
        "capture.index.packets_per_s",
        lambda: _indexed(content, pcap.HEADER_BYTES, index),
        lambda: dpkt.pcap.Reader(io.BytesIO(few)),
    )


def _pcapng_row(data: MarketData) -> Row:
    header, blocks, packets = _pcapng_bytes(data.packets)
    content = np.frombuffer(header + blocks * -(-PACKETS // packets), np.uint8).copy()
    few = header + blocks * max(1, PEER_PACKETS // packets)
    interfaces = np.array([[1, 0, 9, 0, 1]], np.uint64)

    def index(window: np.ndarray, at: int, rows: Rows) -> tuple[int, int, int]:
        # All packets have times of their own: none takes over that of the one before.
        found, at, why, _ = pcapng.index_pcapng(
            window, at, False, interfaces, 1, np.uint64(0), rows.offset, rows.length, rows.timestamp, rows.link
        )
        return found, at, why

    return _index_row(
        "capture.index.pcapng.packets_per_s",
        lambda: _indexed(content, len(header), index),
        lambda: dpkt.pcapng.Reader(io.BytesIO(few)),
    )


def _index_row(name: str, indexed: Callable[[], int], with_dpkt: Callable[[], Iterable[object]]) -> Row:
    return compare(name, "packets/s", timed(indexed), "dpkt", timed(lambda: sum(1 for _ in with_dpkt())))


def _indexed(content: np.ndarray, at: int, index: Callable[[np.ndarray, int, Rows], tuple[int, int, int]]) -> int:
    """Packets that ``index`` finds from ``at`` on, a window at a time; it is given the bytes up to the window's end."""
    count = 0
    for end in (*range(WINDOW_BYTES, len(content), WINDOW_BYTES), len(content)):
        why = FULL
        while why == FULL:
            found, at, why = index(content[:end], at, Rows(end - at))
            count += found
    return count


def pcap_bytes(packets: Packets, count: int) -> bytes:
    """A pcap file of ``count`` packets or a few more: these, again and again."""
    with tempfile.NamedTemporaryFile() as file:
        write_pcap(file.name, packets.slice(0, count))
        content = file.read()
    return content + content[pcap.HEADER_BYTES :] * (-(-count // len(packets)) - 1)


def _pcapng_bytes(packets: Packets) -> tuple[bytes, bytes, int]:
    """Section and interface blocks (times in ns), at most PEER_PACKETS packets' blocks behind them, and how many."""
    header = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, pcapng.BYTE_ORDER_MAGIC, 1, 0, -1, 28)
    header += struct.pack("<IIHHIHHB3xHHI", pcapng.INTERFACE_DESCRIPTION, 32, 1, 0, 0, 9, 1, 9, 0, 0, 32)
    some = packets.slice(0, PEER_PACKETS)
    blocks = []
    for number in range(len(some)):
        packet, time = some.packet(number), int(some.timestamp[number])
        padded = packet + bytes(-len(packet) % 4)
        total = 32 + len(padded)
        head = (pcapng.ENHANCED_PACKET, total, 0, time >> 32, time & 0xFFFFFFFF, len(packet), len(packet))
        blocks.append(struct.pack("<7I", *head) + padded + struct.pack("<I", total))
    return header, b"".join(blocks), len(some)
