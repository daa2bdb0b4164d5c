"""An SBE venue's instruments by symbol: what definitions in the captures call so."""

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hdl.flow import Endpoint
from hdl.frame import Kind
from hdl.sbe_schema import Schema
from hdl.sbe_venue import load_venue
from hdl.sources import ROOT
from host import replay
from host.capture.packets import Packets
from host.capture.reader import read_packets
from host.capture.write import udp_packet, write_pcap
from host.cli import app
from host.playback.symbols import find_symbols

DATA = ROOT.parent / "shared/data"
CME = DATA / "cme_mdp3/Cme.Mdp3.Sbe.v6.1.pcap"
CME_SCHEMA = DATA / "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml"
pytestmark = pytest.mark.skipif(not CME.exists(), reason=f"there is no {CME}")

DEFINITIONS = Endpoint.parse("224.0.31.43:14343")
SYMBOL, SECURITY_ID = 55, 48
OTHER = 999_999
"""An instrument that nothing is sent of."""


def definition(schema: Schema, instrument: int, symbol: str) -> bytes:
    """A packet with the definition of a future, without its groups."""
    message = next(each for each in schema.messages if each.name.startswith("MDInstrumentDefinitionFuture"))
    block = bytearray(message.block_length)
    for field in message.fields:
        if field.id == SYMBOL:
            block[field.offset : field.offset + len(symbol)] = symbol.encode()
        elif field.id == SECURITY_ID:
            struct.pack_into("<i", block, field.offset, instrument)
    head = struct.pack("<HHHHH", 10 + len(block), len(block), message.id, schema.id, schema.version)
    payload = struct.pack("<IQ", 1, 0) + head + block
    return udp_packet(payload, Endpoint.parse("10.0.0.9:30000"), DEFINITIONS)


@pytest.fixture(scope="module")
def instrument() -> int:
    """The one that most of the capture's updates are of."""
    frames = np.concatenate([batch.frames.copy() for batch in replay(CME, schema=CME_SCHEMA)])
    codes, counts = np.unique(frames["instrument"][frames["kind"] == Kind.BOOK_UPDATE], return_counts=True)
    return int(codes[counts.argmax()])


@pytest.fixture(scope="module")
def capture(tmp_path_factory, instrument) -> Path:
    path = tmp_path_factory.mktemp("symbols") / "day.pcap"
    market, schema = read_packets(CME), load_venue(CME_SCHEMA).schema
    first = int(market.timestamp[0])
    defined = [definition(schema, code, symbol) for code, symbol in ((instrument, "ESZ6"), (OTHER, "NQZ6"))]
    packets = defined * 2 + [market.packet(n) for n in range(2000)]
    write_pcap(path, Packets.of(packets, [first] * 4 + market.timestamp[:2000].tolist()))
    return path


def test_a_symbol_is_the_instrument_that_was_defined_so(capture, tmp_path, instrument):
    for name, wanted in (("symbol", "ESZ6"), ("id", instrument)):
        done = CliRunner().invoke(
            app,
            [
                "replay",
                str(capture),
                "--schema",
                str(CME_SCHEMA),
                "--instrument",
                str(wanted),
                "--out",
                str(tmp_path / name),
            ],
        )
        assert done.exit_code == 0, done.output
    one, other = (pd.read_parquet(tmp_path / name / "frames") for name in ("symbol", "id"))
    pd.testing.assert_frame_equal(one, other)
    assert set(one["instrument"]) == {instrument}
    assert (one["kind"] == "BOOK_UPDATE").sum() > 50
    assert (one["kind"] == "DEFINITION").sum() == 2


def test_definitions_may_come_by_a_channel_that_is_not_wanted(capture, instrument):
    channel = "224.0.31.64:14340"
    frames = [
        batch.frames.copy() for batch in replay(capture, schema=CME_SCHEMA, instruments=["ESZ6"], channels=[channel])
    ]
    assert {code for each in frames for code in each["instrument"].tolist()} == {instrument}


def test_a_symbol_that_nothing_is_called_is_refused_with_those_that_are(capture, tmp_path):
    arguments = ["replay", capture, "--schema", CME_SCHEMA, "--instrument", "CLZ6", "--out", tmp_path / "out"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2
    assert "no message is of instrument CLZ6; there are ESZ6, NQZ6" in done.output
    assert list(tmp_path.iterdir()) == []


def test_numbers_need_no_definitions(capture):
    class Unread:
        @property
        def captures(self):
            raise AssertionError("read")

    assert find_symbols(["123"], Unread(), [], load_venue(CME_SCHEMA)) == {}
