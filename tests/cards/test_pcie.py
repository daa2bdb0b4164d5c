"""The PCIe card gives the frames of the others: its RTL in a simulated slot, driven by the host's own code."""

from collections.abc import Iterator
from functools import cache

import pytest

from hdl.flow import Parser
from hdl.sbe_venue import load_venue
from host.card import CardError, open_card
from host.card.pcie import PcieCard
from host.card.ring import Ring, ring_bytes
from host.card.soft import SoftCard
from host.generate import SCHEMA, generate
from sim.pcie_card import SimulatedDevice
from tests.cards.comparison import ROOMY, SMALLEST, Geometry, Reading, first_difference, read_all

pytestmark = pytest.mark.slow

ROWS = 4
"""Flows of the card: a small one, without SBE, compiles quickly."""

GENERATED = generate(orders=600, seed=7, malformed=0.1)
FLOWS = [flow for flow in GENERATED.flows if flow.parser is Parser.FIX][:ROWS]
PACKETS = GENERATED.packets

BELOW, ABOVE = 0x4000_0000, 0x12_3456_0000
"""Bus addresses below and above 4 GiB."""


@cache
def expected(geometry: Geometry) -> Reading:
    """What the soft card makes of the packets."""
    with SoftCard(FLOWS, None, Ring.create(None, geometry.frame_slots, geometry.payload_bytes)) as card:
        return read_all(card, PACKETS, geometry.release)


def insert(geometry: Geometry = ROOMY, **options) -> tuple[SimulatedDevice, PcieCard]:
    """A card in a slot, and its driver."""
    device = SimulatedDevice(None, ring_bytes(geometry.frame_slots, geometry.payload_bytes), flows=ROWS, **options)
    return device, drive(device, geometry)


def drive(device: SimulatedDevice, geometry: Geometry = ROOMY) -> PcieCard:
    """A driver with a new ring."""
    device.memory[:] = bytes(len(device.memory))
    ring = Ring.within(device.memory, geometry.frame_slots, geometry.payload_bytes)
    return PcieCard("pcie:sim", FLOWS, None, device, ring)


def compare(card: PcieCard, geometry: Geometry) -> Reading:
    """Read all packets; fails where they are not read as the soft card reads them."""
    reading = read_all(card, PACKETS, geometry.release)
    difference = first_difference(expected(geometry), reading)
    assert difference is None, difference
    return reading


@pytest.fixture(scope="module", autouse=True)
def model() -> Iterator[None]:
    """The model is compiled before a test's time counts."""
    device, card = insert()
    assert device.faults == 0
    card.close()
    return


@pytest.mark.parametrize("max_payload", [128, 256, 512])
@pytest.mark.parametrize("bus_address", [BELOW, ABOVE])
def test_frames_are_those_of_the_soft_card(max_payload, bus_address):
    device, card = insert(max_payload=max_payload, bus_address=bus_address)
    with card:
        reading = compare(card, ROOMY)
        assert len(reading.frames) > 300
        assert device.faults == 0
        print(f"{len(reading.frames)} frames in {device.requests} requests, {device.cycles} cycles")


@pytest.mark.parametrize("geometry", [SMALLEST, Geometry(4, 1 << 15, 1), Geometry(64, 1 << 15, 7)])
def test_rings_without_room_and_a_root_complex_that_is_busy(geometry):
    device, card = insert(geometry, busy=0.6, seed=3)
    with card:
        compare(card, geometry)
        assert device.faults == 0


def test_a_card_that_is_opened_again_begins_anew():
    geometry = Geometry(4, 1 << 15)
    device, card = insert(geometry)
    assert card.feed(PACKETS) < len(PACKETS)
    device.run(1000)
    again = drive(device, geometry)
    with again:
        compare(again, geometry)
        assert device.faults == 0


class Restless(SimulatedDevice):
    """A device whose Bus Master Enable is taken away for a while, again and again."""

    loads = 0

    def load(self, offset: int) -> int:
        self.loads += 1
        if self.loads % 3 == 0:
            self.set_bus_master(False)
            self.run(100)
            self.set_bus_master(True)
        return super().load(offset)


def test_bus_master_is_taken_away_in_the_middle():
    """Nothing is missing behind it, also where a request was cut off."""
    device = Restless(None, ring_bytes(ROOMY.frame_slots, ROOMY.payload_bytes), flows=ROWS, busy=0.5, seed=5)
    with drive(device) as card:
        compare(card, ROOMY)
        assert card.link()["returns"] > 10
        assert device.faults == 0
        assert device.cut_off > 0


@pytest.mark.parametrize(
    ("accident", "reason"),
    [
        (SimulatedDevice.reset, "the card was reset, and what it had is lost: open it anew"),
        (SimulatedDevice.pull, "the card was reset, and what it had is lost: open it anew"),
        (SimulatedDevice.cut, "the card does not answer any more: its link is down"),
    ],
)
def test_a_card_that_is_lost_is_noticed(accident, reason):
    device, card = insert(Geometry(4, 1 << 15))
    card.feed(PACKETS)
    accident(device)
    with pytest.raises(CardError, match=reason):
        card.feed(PACKETS)
    if accident is SimulatedDevice.cut:
        with pytest.raises(CardError, match="the card does not answer"):
            drive(device)
        return
    device.set_bus_master(True)
    with drive(device, SMALLEST) as again:
        compare(again, SMALLEST)
        assert again.link()["link_downs" if accident is SimulatedDevice.pull else "function_resets"] == 1
        assert device.faults == 0


@pytest.mark.parametrize(
    ("constant", "value", "reason"),
    [
        ("start.VERSION", 99, "the card's registers have version 2, not 99: flash it anew"),
        ("pcie.PCIE_VERSION", 99, "the card's BAR has version 1, not 99: flash it anew"),
        ("start.IDENTITY", 0, "which is no Tickgate card"),
    ],
)
def test_a_card_of_another_version_is_refused(monkeypatch, constant, value, reason):
    """Seen from a host that is of another one."""
    monkeypatch.setattr(f"host.card.{constant}", value)
    with pytest.raises(CardError, match=reason):
        insert()


def test_a_card_without_this_schema_or_so_many_flows_is_refused():
    device = SimulatedDevice(None, ring_bytes(4, 1 << 15), flows=ROWS)
    ring = Ring.within(device.memory, 4, 1 << 15)
    with pytest.raises(CardError, match="the card decodes no SBE: build and flash it for"):
        PcieCard("pcie:sim", FLOWS, load_venue(SCHEMA), device, ring)
    device = SimulatedDevice(None, ring_bytes(4, 1 << 15), flows=ROWS)
    with pytest.raises(CardError, match="5 flows are too many: the card's flow table has 4 rows"):
        PcieCard("pcie:sim", (FLOWS * 5)[:5], None, device, Ring.within(device.memory, 4, 1 << 15))


def test_what_is_no_pcie_url():
    for url in ("pcie:", "pcie:03:00.0", "pcie:0000:03:00.9", "pcie:0000:03:00.0?x=1"):
        with pytest.raises(CardError, match="is not pcie:DOMAIN:BUS:DEVICE"):
            open_card(url, FLOWS)
