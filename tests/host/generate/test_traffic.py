"""Generated traffic is what it says it is: read back with simplefix, the `sbe` package and the capture reader."""

from collections import Counter, defaultdict

import numpy as np
import pytest
import sbe
import simplefix

from hdl.flow import Endpoint, Parser
from host.capture.flows import find_flows
from host.capture.reader import open_capture
from host.generate import ACCOUNTS, INSTRUMENTS, SCHEMA, generate
from host.generate.clients import EXCESSIVE
from host.generate.faults import FAULTS
from host.generate.traffic import FEEDS, GATEWAY

ORDERS = 3000
ETHERNET, VLAN, IPV4, UDP = 14, 4, 20, 8


def payloads(generated, endpoint):
    """Payloads of the packets to ``endpoint``, in order: (source, TCP sequence or None, bytes)."""
    for n in range(len(generated.packets)):
        packet = generated.packets.packet(n)
        ip = ETHERNET + (VLAN if packet[12:14] == b"\x81\x00" else 0)
        transport = ip + IPV4
        number = int.from_bytes
        destination = Endpoint(number(packet[ip + 16 : transport], "big"), number(packet[transport + 2 :][:2], "big"))
        if destination != endpoint:
            continue
        source = Endpoint(number(packet[ip + 12 : ip + 16], "big"), number(packet[transport:][:2], "big"))
        if packet[ip + 9] == 17:
            yield source, None, packet[transport + UDP :]
        else:
            yield source, number(packet[transport + 4 :][:4], "big"), packet[transport + 20 :]


def streams(generated):
    """The TCP streams by source, and that their sequence numbers have neither gap nor overlap but whole segments again."""
    joined, due, before = defaultdict(bytes), {}, {}
    repeated = 0
    for source, sequence, payload in payloads(generated, GATEWAY):
        if payload and before.get(source) == (sequence, payload):
            repeated += 1
            continue
        assert due.setdefault(source, sequence) == sequence
        due[source] += len(payload) or 1
        joined[source] += payload
        before[source] = sequence, payload
    assert repeated == generated.sent.packets["repeated"]
    return joined


def checksum_is_right(raw):
    return raw[-7:-4] == b"10=" and sum(raw[:-7]) % 256 == int(raw[-4:-1])


def digest(generated):
    parts = (generated.packets.data, generated.packets.offset, generated.packets.length, generated.packets.timestamp)
    return b"".join(part.tobytes() for part in parts)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    assert digest(generate(300, 7)) == digest(generate(300, 7))
    assert digest(generate(300, 7)) != digest(generate(300, 8))


def test_every_message_without_faults_is_read_by_simplefix():
    generated = generate(ORDERS, 3, malformed=0)
    types = Counter()
    for stream in streams(generated).values():
        parser = simplefix.FixParser()
        parser.append_buffer(stream)
        sequence, last = 0, b""
        while message := parser.get_message():
            raw = message.encode(raw=True)
            assert checksum_is_right(raw)
            assert int(message.get(9)) == len(raw) - raw.index(b"\x0135=") - 1 - 7
            sequence += 1
            assert int(message.get(34)) == sequence
            last = message.get(35)
            assert (last == b"A") == (sequence == 1)
            types[last.decode()] += 1
        assert last == b"5"
    assert types == generated.sent.fix
    assert types["D"] + types["F"] + types["G"] == ORDERS == generated.sent.orders
    assert types.total() == generated.sent.fix_frames


def test_orders_name_earlier_orders_of_their_own_and_break_the_limits_only_where_it_is_said():
    generated = generate(ORDERS, 4, malformed=0)
    found, used = Counter(), set()
    for stream in streams(generated).values():
        own = set()
        parser = simplefix.FixParser()
        parser.append_buffer(stream)
        while message := parser.get_message():
            if message.get(35) not in (b"D", b"F", b"G"):
                continue
            assert message.get(1).decode() in ACCOUNTS
            identifier, quantity = message.get(11), float(message.get(38))
            if message.get(41):
                assert message.get(41) in own
            if identifier in used:
                found["duplicate"] += 1
            own.add(identifier)
            used.add(identifier)
            instrument = INSTRUMENTS.get(message.get(55).decode())
            if instrument is None:
                found["unknown instrument"] += 1
                continue
            found["quantity"] += quantity * 1e8 > instrument.maximum_quantity
            if message.get(44):
                price = round(float(message.get(44)) * 1e9)
                assert price % instrument.tick == 0
                away = abs(price - instrument.reference_price)
                collar = instrument.reference_price * instrument.collar_ppm // 10**6
                assert away > 10 * collar or away < collar / 2
                found["collar"] += away > collar
                notional, limit = price / 1e9 * quantity, ACCOUNTS[message.get(1).decode()]
                assert notional > 100 * limit or notional < limit or quantity * 1e8 > instrument.maximum_quantity
                found["notional"] += notional > limit and quantity * 1e8 <= instrument.maximum_quantity
    assert found == generated.sent.excessive
    assert set(found) == set(EXCESSIVE)


def test_malformed_messages_stand_between_well_formed_ones_and_every_way_occurs():
    generated = generate(ORDERS, 5, malformed=0.1)
    assert set(generated.sent.malformed) == set(FAULTS)
    assert 0.07 * ORDERS < generated.sent.malformed.total() < 0.13 * ORDERS
    for stream in streams(generated).values():
        assert stream.startswith(b"8=FIX.4.4\x019=")
        assert b"\x0135=A\x01" in stream[:30]
        assert checksum_is_right(stream[stream.rindex(b"8=FIX") :])
        assert b"\x0135=5\x01" in stream[stream.rindex(b"8=FIX") :]


@pytest.mark.parametrize("feeds", [1, 2])
def test_market_data_is_read_by_the_sbe_package(feeds):
    generated = generate(ORDERS, 6, feeds=feeds)
    schema = sbe.Schema.parse(SCHEMA.open())
    messages, entries, nulls = Counter(), Counter(), Counter()
    known = {instrument.security_id: instrument for instrument in INSTRUMENTS.values()}
    for feed in FEEDS[:feeds]:
        rows = Counter()
        for number, (_, _, payload) in enumerate(payloads(generated, feed)):
            assert int.from_bytes(payload[:4], "little") == number + 1
            at = 12
            while at < len(payload):
                size = int.from_bytes(payload[at : at + 2], "little")
                message = schema.decode(payload[at + 2 : at + size])
                at += size
                template = message.header["templateId"]
                assert (message.header["schemaId"], message.header["version"]) == (77, 1)
                messages[template] += 1
                for group in ("NoMDEntries", "NoOrderIDEntries"):
                    entries[template] += len(message.value.get(group, ()))
                for entry in message.value.get("NoMDEntries", ()):
                    rows[entry["SecurityID"]] += 1
                    assert entry["RptSeq"] == rows[entry["SecurityID"]]
                    instrument = known[entry["SecurityID"]]
                    price = entry["MDEntryPx"]["mantissa"]
                    nulls["price"] += price is None
                    nulls["size"] += entry["MDEntrySize"] is None
                    if price is not None:
                        assert abs(price * 100 / instrument.reference_price - 1) < 0.05
                if template == 4:
                    shares = [entry["LastQty"] for entry in message.value["NoOrderIDEntries"]]
                    assert sum(shares) == message.value["NoMDEntries"][0]["MDEntrySize"]
            assert at == len(payload)
    assert messages == generated.sent.sbe
    assert entries == generated.sent.entries
    assert set(messages) == {1, 2, 3, 4, 5}
    assert nulls["price"] > 0
    assert nulls["size"] > 0
    assert generated.sent.sbe_frames == entries.total() + messages[1] + messages[2]


def test_a_written_capture_reads_back_with_its_flow_table(tmp_path):
    generated = generate(500, 9, sessions=14, feeds=2)
    generated.write(tmp_path / "demo.pcap")
    capture = open_capture(tmp_path / "demo.pcap")
    assert capture.warning is None
    assert len(capture.packets) == generated.sent.packets.total()
    assert (capture.packets.timestamp == generated.packets.timestamp).all()
    assert (np.diff(capture.packets.timestamp.astype(np.int64)) >= 0).all()
    found = find_flows(capture.packets, sbe=True)
    assert set(found.table()) == set(generated.flows)
    by_parser = Counter[Parser]()
    for flow in found:
        by_parser[flow.flow.parser] += flow.conversation.packets
    assert by_parser[Parser.FIX] == generated.sent.packets["tcp"] + generated.sent.packets["repeated"]
    assert by_parser[Parser.SBE] == generated.sent.packets["udp"]
    assert found.other_packets == generated.sent.packets["empty"]


def test_the_default_is_what_the_demo_promises():
    sent = generate().sent
    assert sent.orders == 20_000
    assert 150 < sent.malformed.total() < 250
    assert sent.messages == sent.orders + sent.session_messages + sent.malformed.total() + sent.sbe.total()


@pytest.mark.parametrize(
    "arguments", [{"orders": -1}, {"sessions": 0}, {"sessions": 64}, {"feeds": 3}, {"malformed": 1.5}]
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError):
        generate(**{"orders": 1, **arguments})
