"""Bench of hdl/registers.py (table: hdl/register_map.py)."""

import random
from typing import Any

import cocotb
from amaranth.lib import data, wiring

from hdl.flow_match import FlowRow
from hdl.limits import FLOWS
from hdl.register_map import ADDRESS, BUILT, COUNTERS, IDENTITY, REGISTERS, ROW_STRIDE, VERSION
from hdl.registers import ADDRESS_BITS, COUNT_BITS, COUNTER_LAG, WIDE_BITS, Registers
from hdl.ring_writer import RingSettings
from sim.benches.packing import packing
from sim.benches.streams import Clocked

WIDE = (*random.Random(1).sample(list(COUNTERS), 4),)
WIDTHS = {name: WIDE_BITS if name in WIDE else COUNT_BITS for name in COUNTERS}
INCREMENTS = data.StructLayout(WIDTHS)
BUILT_AS = {name: random.Random(name).getrandbits(64) for name in BUILT}
TABLE = data.ArrayLayout(FlowRow, FLOWS)


def component() -> wiring.Component:
    return Registers(built=BUILT_AS, wide=WIDE)


async def start(dut: Any) -> Clocked:
    """A bus at rest."""
    bench = Clocked(dut)
    dut.bus__write.value = 0
    dut.bus__address.value = 0
    dut.increments.value = 0
    await bench.reset()
    return bench


async def write(bench: Clocked, address: int, value: int) -> None:
    bench.dut.bus__address.value = address
    bench.dut.bus__write_data.value = value
    bench.dut.bus__write.value = 1
    await bench.cycles(1)
    bench.dut.bus__write.value = 0


async def read(bench: Clocked, address: int) -> int:
    """What is there one cycle after the address."""
    bench.dut.bus__address.value = address
    await bench.cycles(2)
    return int(bench.dut.bus__read_data.value)


@cocotb.test()
async def settings(dut):
    """Every setting of the rings and every row of the flow table is written alone, as far as it is wide."""
    bench = await start(dut)
    for _ in range(2):
        ring = dict.fromkeys(RingSettings.members, 0)
        rows = [dict.fromkeys(FlowRow.members, 0) for _ in range(FLOWS)]
        chosen = [
            (register, row) for register in REGISTERS if register.access == "write" for row in range(register.rows)
        ]
        random.shuffle(chosen)
        for register, row in chosen:
            value = random.getrandbits(64)
            await write(bench, register.address + ROW_STRIDE * row, value)
            if register.name in ring:
                ring[register.name] = value % (1 << packing(RingSettings.members[register.name]).width)
            elif register.name == "flow_control":
                rows[row] |= {"protocol": value & 0xFF, "parser": value >> 8 & 0xFF}
            else:
                name = register.name.removeprefix("flow_")
                rows[row] |= {name: value & 0xFFFFFFFF, f"{name}_port": value >> 32 & 0xFFFF}
        await bench.cycles(1)
        assert packing(RingSettings).unpack(int(dut.ring.value)) == ring
        assert packing(TABLE).unpack(int(dut.flows.value)) == rows


@cocotb.test()
async def counters(dut):
    """Counters add up, all in the same cycle and each by the most there is in all cycles; they are behind by COUNTER_LAG cycles, no more."""
    bench = await start(dut)
    totals = dict.fromkeys(COUNTERS, 0)
    for always in (False, True):
        for _ in range(200):
            more = {
                name: (1 << width) - 1 if always else random.choice((0, 1, 8, (1 << width) - 1))
                for name, width in WIDTHS.items()
            }
            dut.increments.value = packing(INCREMENTS).pack(more)
            totals = {name: total + more[name] for name, total in totals.items()}
            await bench.cycles(1)
        dut.increments.value = 0
        await bench.cycles(COUNTER_LAG)
        assert {name: await read(bench, ADDRESS[name]) for name in COUNTERS} == totals


@cocotb.test()
async def addresses(dut):
    """Identity, version and what the card was built as; all that is no register to be read is 0, and writing there changes nothing that is read."""
    bench = await start(dut)
    for address in range(1 << ADDRESS_BITS):
        await write(bench, address, (1 << 64) - 1)
    constants = {"identity": IDENTITY, "version": VERSION, **BUILT_AS}
    readable = {ADDRESS[name]: value for name, value in constants.items()}
    for address in range(1 << ADDRESS_BITS):
        assert await read(bench, address) == readable.get(address, 0), f"address {address}"
