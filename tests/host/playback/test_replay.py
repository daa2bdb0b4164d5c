"""A capture with holes, segments sent twice and FIX market data, seen through to the journal and the report."""

import io
import struct

import pytest
from rich.console import Console

from hdl.flow import Endpoint, Parser
from hdl.frame import Kind
from hdl.sbe_framing import Framing, read_framing
from hdl.sbe_profile import Profile
from hdl.sbe_schema import load_schema
from hdl.sbe_venue import Venue
from host.capture.packets import Packets
from host.capture.reader import open_captures
from host.capture.write import tcp_packet, udp_packet, write_pcap
from host.card import CardError
from host.demo import DEMO_LIMITS
from host.gateway.verdict import Verdict
from host.playback.replay import Replay, flows_of
from host.playback.report import print_report

CLIENT, GATEWAY = Endpoint.parse("10.0.0.2:40000"), Endpoint.parse("10.0.0.1:5001")


def message(body: str) -> bytes:
    head = f"8=FIX.4.4|9={len(body)}|{body}".replace("|", "\x01").encode()
    return head + b"10=%03d\x01" % (sum(head) % 256)


def order(number: int) -> bytes:
    return message(f"35=D|34={number}|11=id{number}|55=ALDER|54=1|38=10|40=1|59=3|")


BOOK = message("35=W|55=ALDER|269=0|270=99|271=5|269=1|270=101|271=5|269=2|270=100|271=1|")


def test_holes_and_repeated_segments_are_reported_and_no_order_comes_twice(tmp_path):
    stream = b"".join([order(1), BOOK, order(2), order(3), order(4)])
    # From within order 2 to within order 3.
    lost = slice(len(order(1)) + len(BOOK) + 20, len(order(1)) + len(BOOK) + len(order(2)) + 10)
    parts = [
        (0, stream[:50]),
        (50, stream[50 : lost.start]),
        (50, stream[50 : lost.start]),
        (lost.stop, stream[lost.stop :]),
    ]
    segments = [tcp_packet(payload, CLIENT, GATEWAY, sequence=1 + at) for at, payload in parts]
    write_pcap(tmp_path / "holes.pcap", Packets.of(segments))
    captures = open_captures([tmp_path / "holes.pcap"])
    flows, _ = flows_of(captures, None)
    assert flows[0].source == CLIENT

    result = Replay(captures, "soft:", flows, None, DEMO_LIMITS, tmp_path / "journal").run()
    assert (result.counters["repeated"], result.counters["gaps"]) == (1, 1)
    assert [(row.message_type, row.messages, row.entries) for row in result.types] == [("D", 2, 0), ("W", 1, 3)]
    assert result.gateway.kinds[Kind.GAP] == 1
    assert result.gateway.kinds[Kind.BOOK_UPDATE] == 2
    assert result.gateway.kinds[Kind.TRADE] == 1
    assert result.gateway.malformed == 1
    assert result.gateway.verdicts[Verdict.NOT_AN_ORDER] == 4
    assert result.gateway.journaled == 2
    assert result.reconciliation.closes
    assert result.unfinished_bytes == 0
    assert all(flow.parser is Parser.FIX for flow in flows)

    console = Console(width=80, record=True, file=io.StringIO())
    print_report(console, result)
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    # Labels go on in the next line.
    for label in ("TCP segments whose bytes had all come", "holes in the bytes of TCP flows"):
        assert any(line.startswith(label) and line.endswith(" 1") for line in lines), lines


@pytest.mark.parametrize("as_captured", [False, True])
def test_segments_that_were_overtaken_are_put_in_order_unless_they_are_wanted_as_captured(tmp_path, as_captured):
    stream = b"".join(order(number) for number in range(1, 9))
    parts = [(at, stream[at : at + 70]) for at in range(0, len(stream), 70)]
    parts[2:5] = [parts[4], parts[2], parts[3]]
    segments = [tcp_packet(payload, CLIENT, GATEWAY, sequence=1 + at) for at, payload in parts]
    write_pcap(tmp_path / "late.pcap", Packets.of(segments))
    captures = open_captures([tmp_path / "late.pcap"], as_captured)
    flows, _ = flows_of(captures, None)
    reached = []
    result = Replay(captures, "soft:", flows, None, DEMO_LIMITS, tmp_path / "journal").run(reached.append)
    assert (result.counters["gaps"] > 0) == as_captured
    assert (result.messages == 8) == (not as_captured)
    assert result.capture.segments_waited == (0 if as_captured else 1)
    assert result.named()["capture"]["packets"] == result.packets == len(parts)
    assert reached[-1].done_bytes == reached[-1].total_bytes == (tmp_path / "late.pcap").stat().st_size


SCHEMA = """<messageSchema package="probed" id="7">
<types>
  <composite name="messageHeader"><type name="blockLength" primitiveType="uint16"/><type name="templateId" primitiveType="uint16"/>
    <type name="schemaId" primitiveType="uint16"/><type name="version" primitiveType="uint16"/></composite>
  <composite name="groupSizeEncoding"><type name="blockLength" primitiveType="uint16"/><type name="numInGroup" primitiveType="uint8"/></composite>
</types>
<message name="M" id="1"><group name="g" id="1"><field name="a" id="2" type="uint8"/></group></message>
</messageSchema>"""
BY_STRUCTURE = read_framing({"message": {"end": "structure"}})


def sbe(template: int = 1, schema: int = 7, body: bytes = b"") -> bytes:
    return struct.pack("<4H", 0, template, schema, 0) + body


FOREIGN = sbe(schema=8)
LAME = sbe(body=b"\1\0\2")
"""A dimension with one byte too few."""


@pytest.mark.parametrize(
    ("payloads", "framing", "reason"),
    [
        ([FOREIGN, LAME, sbe()], Framing(), None),
        ([FOREIGN, sbe(body=struct.pack("<HB", 1, 2) + b"x")], Framing(), None),
        ([FOREIGN, sbe(template=2)], Framing(), None),
        ([LAME, FOREIGN], Framing(), "its messages have schema id 8, the schema .* has 7"),
        ([LAME, b"x"], Framing(), "not one of its first messages can be read by .* with the profile test"),
        ([sbe(template=2)], BY_STRUCTURE, "not one of its first messages can be read by .* with the profile test"),
        ([sbe(body=struct.pack("<HB", 1, 0)) + sbe(template=2)], BY_STRUCTURE, None),
    ],
)
def test_a_schema_that_fits_no_message_is_refused_before_the_replay(tmp_path, payloads, framing, reason):
    (tmp_path / "probed.xml").write_text(SCHEMA)
    venue = Venue.of(load_schema(tmp_path / "probed.xml"), Profile("test", (), framing))
    packets = [udp_packet(payload, CLIENT, Endpoint.parse("239.0.0.1:9000")) for payload in payloads]
    write_pcap(tmp_path / "probed.pcap", Packets.of(packets))
    captures = open_captures([tmp_path / "probed.pcap"])
    if reason is None:
        assert len(flows_of(captures, venue)[0]) == 1
        return
    with pytest.raises(CardError, match=f"probed.pcap: wrong schema: {reason}"):
        flows_of(captures, venue)
