"""A host with the PCIe card in its slot, by cocotbext-pcie: the card's way to the block, the block, the link and the host's driver."""

import logging
from typing import Any

from cocotb.triggers import Timer
from cocotbext.axi import AxiStreamBus, MemoryRegion
from cocotbext.pcie.core import RootComplex
from cocotbext.pcie.core.dllp import FcType
from cocotbext.pcie.core.tlp import TlpType
from cocotbext.pcie.xilinx.us import UltraScalePlusPcieDevice

from hdl.pcie_map import BAR_BYTES, PCI_DEVICE, PCI_VENDOR
from sim.benches.pcie_driver import HIGH, Driver

CLOCK_NS = 4
"""250 MHz: a link of Gen3 x4."""

PAYLOAD_CODE = {128: 0, 256: 1, 512: 2}
"""Codes of Max_Payload_Size."""

BLOCK_INPUTS = (
    "pcie_rq_seq_num0",
    "pcie_rq_seq_num_vld0",
    "user_lnk_up",
    "cfg_function_status",
    "cfg_max_payload",
    "cfg_bus_number",
    "cfg_fc_ph",
    "cfg_fc_pd",
)


class Host(Driver):
    """A host with the card in its only slot.

    Attributes:
        device: the card as the host's PCI code has it, once it was enumerated.
    """

    def __init__(
        self,
        dut: Any,
        *,
        max_payload: int = 512,
        base: int = HIGH,
        headers: int = 64,
        data: int = 1024,
        slots: int = 256,
    ):
        super().__init__(base, slots)
        self.dut = dut
        logging.getLogger("cocotb.pcie").setLevel(logging.ERROR)
        logging.getLogger("cocotb.bench").setLevel(logging.ERROR)
        dut.cfg_flr_in_process.value = 0
        dut.sys_reset.value = 1
        self.complex = RootComplex()
        self.block = UltraScalePlusPcieDevice(
            pcie_generation=3,
            pcie_link_width=4,
            user_clk_frequency=250e6,
            max_payload_size=512,
            rq_bus=AxiStreamBus.from_prefix(dut, "s_axis_rq", bus_separator="__"),
            cc_bus=AxiStreamBus.from_prefix(dut, "s_axis_cc", bus_separator="__"),
            cq_bus=AxiStreamBus.from_prefix(dut, "m_axis_cq", bus_separator="__"),
            pcie_cq_np_req=dut.pcie_cq_np_req,
            cfg_fc_sel=dut.cfg_fc_sel,
            user_clk=dut.clk,
            user_reset=dut.rst,
            sys_reset=dut.sys_reset,
            **{name: getattr(dut, name) for name in BLOCK_INPUTS},
        )
        for part in (self.complex, self.block, *self.block.functions):
            part.log.setLevel(logging.ERROR)
        for stream in (self.block.rq_sink, self.block.cc_sink, self.block.cq_source):
            stream.log.setLevel(logging.ERROR)
        function = self.block.functions[0]
        function.vendor_id, function.device_id = PCI_VENDOR, PCI_DEVICE
        function.configure_bar(0, BAR_BYTES, ext=True, prefetch=False)
        self.port = self.complex.make_port()
        credit = self.port.downstream_port.fc_state[0]
        for kind, granted in ((credit.ph, headers), (credit.pd, data)):
            kind.rx_initial_allocation = kind.rx_credits_allocated = granted
        self.port.connect(self.block)
        self.complex.max_payload_size = PAYLOAD_CODE[max_payload]
        self.complex.mem_address_space.register_region(MemoryRegion(len(self.memory), self.memory), base)
        self.device: Any = None

    async def enumerate(self) -> None:
        """What a host's firmware and the card's driver do before the card is used."""
        await Timer(1, "us")
        await self.complex.enumerate()
        self.device = self.complex.find_device(self.block.functions[0].pcie_id)
        await self.device.enable_device()
        await self.device.set_master()
        self.bar = self.device.bar_window[0]

    def watch_requests(self) -> list[int]:
        """Bytes of each request of the card, from now on. Fails where one crosses a page."""
        lengths: list[int] = []

        async def look(tlp: Any) -> None:
            length = 4 * tlp.length
            assert tlp.address % 4096 + length <= 4096, "a request crosses 4 KiB"
            assert (tlp.fmt_type is TlpType.MEM_WRITE_64) == (tlp.address >= 1 << 32)
            lengths.append(length)
            await self.complex.handle_mem_write_tlp(tlp)

        for kind in (TlpType.MEM_WRITE, TlpType.MEM_WRITE_64):
            self.complex.register_rx_tlp_handler(kind, look)
        return lengths

    async def pull(self) -> None:
        """Have the link go down and come up again. The model leaves three things of that to us: a request that was cut off is void, credit
        is granted anew, and the card has forgotten its addresses."""
        self.dut.sys_reset.value = 0
        await Timer(200, "ns")
        sink = self.block.rq_sink
        if sink.active:
            # As a block does with what a reset cuts off: discontinued.
            sink.sample_obj = sink._transaction_obj(tlast=1, tkeep=1, tuser=1 << sink.discontinue_offset)
            sink.sample_sync.set()
        for port in (self.port.downstream_port, self.block.upstream_port):
            port.fc_state[0].reset()
            port.fc_state[0].active = True
            port.fc_initialized, port.fc_init_vc, port.fc_init_type = False, 0, FcType.P
            port.send_fc.set()
        await Timer(1, "us")
        self.dut.sys_reset.value = 1
        await Timer(1, "us")
