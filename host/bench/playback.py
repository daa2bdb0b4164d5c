"""Captures to frames and to Parquet, beside dpkt and the sbe package: what one writes in Python first."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dpkt
import pyarrow as pa
import pyarrow.parquet

from host.bench.captures import PACKETS, pcap_bytes
from host.bench.market_data import MarketData
from host.bench.measure import Row, compare, timed_core
from host.capture.reader import open_captures
from host.playback.batches import Playback
from host.playback.convert import Conversion
from host.playback.dataset import Dataset
from host.playback.selection import channel_name

PEER_PACKETS = 1_000


def rows(data: MarketData) -> list[Row]:
    """Messages a second and core from a file in memory, every copy of them: to frames, and to Parquet files with every field of every message. All of it
    counts: looking for flows, opening the card, writing."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        folder = Path(name)
        (folder / "many.pcap").write_bytes(pcap_bytes(data.packets, PACKETS))
        (folder / "few.pcap").write_bytes(pcap_bytes(data.packets.slice(0, PEER_PACKETS), PEER_PACKETS))
        messages = _messages(data, folder)

        def frames() -> int:
            count = 0
            for batch in _playback(data, folder).batches():
                count += len(batch.frames)
            assert count
            return messages

        def parquet() -> int:
            shutil.rmtree(folder / "out", ignore_errors=True)
            playback = _playback(data, folder)
            sink = Dataset(folder / "out", list(map(channel_name, playback.flows)), {})
            done = Conversion(playback, sink, frames=False).run()
            assert done.messages == messages
            return messages

        return [
            compare(
                "replay.frames.messages_per_s",
                "messages/s",
                timed_core(frames),
                "dpkt + sbe (PyPI)",
                timed_core(lambda: sum(1 for _ in _peer_messages(data, folder))),
            ),
            compare(
                "replay.parquet.messages_per_s",
                "messages/s",
                timed_core(parquet),
                "dpkt + sbe (PyPI) + pyarrow",
                timed_core(lambda: _peer_parquet(data, folder)),
            ),
        ]


def _playback(data: MarketData, folder: Path) -> Playback:
    return Playback(open_captures([folder / "many.pcap"]), data.venue)


def _messages(data: MarketData, folder: Path) -> int:
    return sum(batch.decoded.messages for batch in _playback(data, folder).batches())


def _peer_messages(data: MarketData, folder: Path) -> Iterator[dict[str, object]]:
    """The messages of the short capture as dictionaries: dpkt down to UDP, then what stands before each message."""
    schema = data.peer_schema()
    framing = data.venue.profile.framing
    with (folder / "few.pcap").open("rb") as file:
        for _, packet in dpkt.pcap.Reader(file):
            payload = dpkt.ethernet.Ethernet(packet).data.data.data
            at = framing.packet_size
            while at < len(payload):
                size = int.from_bytes(payload[at : at + 2], "little")
                yield schema.decode(payload[at + framing.message_size : at + size]).value
                at += size


def _peer_parquet(data: MarketData, folder: Path) -> int:
    messages = list(_peer_messages(data, folder))
    pyarrow.parquet.write_table(pa.Table.from_pylist(messages), folder / "peer.parquet", compression="zstd")
    return len(messages)
