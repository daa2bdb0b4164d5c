"""AMD's 7 Series block for PCI Express as Vivado generates it (PG054): its settings, the script that makes it, and the block at the pins of a
slot. None of this has been through Vivado."""

from collections.abc import Collection
from typing import Any

from amaranth.build import Attrs, Clock, DiffPairs, PinsN, Resource, Subsignal
from amaranth.hdl import Const, Instance, Module, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out

from hdl.pcie_map import BAR_BYTES, PCI_DEVICE, PCI_VENDOR
from hdl.pcie_series7 import Series7
from hdl.pcie_tlp import LARGEST_MAX_PAYLOAD

MODULE = "pcie_7x_0"

USER_CLOCK_HZ = 62_500_000
"""What one lane at 5 GT/s needs of a stream of 64 bits: 500 MB/s either way. Twice that, which the block has too, is more than a card reaches."""

REFERENCE_HZ = 100_000_000

SETTINGS: dict[str, object] = {
    "mode_selection": "Advanced",
    "Device_Port_Type": "PCI_Express_Endpoint_device",
    "PCIe_Blk_Locn": "X0Y0",
    "Ref_Clk_Freq": f"{REFERENCE_HZ // 1_000_000}_MHz",
    "Maximum_Link_Width": "X1",
    "Link_Speed": "5.0_GT/s",
    "Trgt_Link_Speed": "4'h2",
    "Interface_Width": "64_bit",
    "User_Clk_Freq": f"{USER_CLOCK_HZ / 1e6:g}",
    "Vendor_ID": f"{PCI_VENDOR:04X}",
    "Device_ID": f"{PCI_DEVICE:04X}",
    "Bar0_Enabled": True,
    "Bar0_Type": "Memory",
    "Bar0_64bit": True,
    "Bar0_Prefetchable": False,
    "Bar0_Scale": "Kilobytes",
    "Bar0_Size": BAR_BYTES // 1024,
    "Max_Payload_Size": f"{LARGEST_MAX_PAYLOAD}_bytes",
    "Buf_Opt_BMA": True,
    "IntX_Generation": False,
    "Legacy_Interrupt": "NONE",
    "MSI_Enabled": False,
    "DSN_Enabled": False,
    # Ports of these kinds there are, and of no others.
    "cfg_status_if": True,
    "cfg_ctl_if": True,
    "cfg_fc_if": True,
    "cfg_mgmt_if": False,
    "err_reporting_if": False,
    "rcv_msg_if": False,
    "pl_interface": False,
}
"""The block's CONFIG properties; all others are as Vivado has them."""

CONSTANT = {
    # The block may send what is its own (completions of configuration requests) whenever it wants to, and hand on all requests.
    "tx_cfg_gnt": (1, 1),
    "rx_np_ok": (1, 1),
    "rx_np_req": (1, 1),
    "cfg_trn_pending": (1, 0),
    "cfg_pm_halt_aspm_l0s": (1, 0),
    "cfg_pm_halt_aspm_l1": (1, 0),
    "cfg_pm_force_state_en": (1, 0),
    "cfg_pm_force_state": (2, 0),
    "cfg_pm_wake": (1, 0),
    "cfg_dsn": (64, 0),
    "cfg_interrupt": (1, 0),
    "cfg_interrupt_assert": (1, 0),
    "cfg_interrupt_di": (8, 0),
    "cfg_interrupt_stat": (1, 0),
    "cfg_pciecap_interrupt_msgnum": (5, 0),
    # Of root ports.
    "cfg_pm_send_pme_to": (1, 0),
    "cfg_ds_bus_number": (8, 0),
    "cfg_ds_device_number": (5, 0),
    "cfg_ds_function_number": (3, 0),
}
"""Inputs of the block that never change: bits and value."""


def creating_script() -> str:
    """Tcl that makes the block, before the design is synthesized."""
    lines = (
        f"    CONFIG.{name} {{{str(value).lower() if isinstance(value, bool) else value}}} \\"
        for name, value in SETTINGS.items()
    )
    return "\n".join(
        [
            f"create_ip -vendor xilinx.com -library ip -name pcie_7x -module_name {MODULE}",
            "set_property -dict [list \\",
            *lines,
            f"] [get_ips {MODULE}]",
            f"synth_ip [get_ips {MODULE}]",
        ]
    )


def placing_script(channel: str) -> str:
    """Tcl that puts the lane onto a transceiver, which decides about its pins, once the design is synthesized: the block comes with a place of its own,
    which is stronger than the pins of the board's constraints."""
    return "\n".join(
        [
            "set lane [get_cells -hierarchical -filter {REF_NAME == GTPE2_CHANNEL}]",
            "reset_property LOC $lane",
            f"set_property LOC {channel} $lane",
        ]
    )


def slot(resource: Resource) -> Resource:
    """A slot with its first lane alone, of a board's resource ``pcie``.

    Pins of transceivers have no I/O standard, and the slot's reset comes from the host, whatever that resource says.
    """
    parts = {part.name: part for part in resource.ios}
    pins = {name: part.ios[0] for name, part in parts.items()}
    # Constraints are text; a board may have numbers there.
    attrs = {name: Attrs(**{key: str(value) for key, value in part.attrs.items()}) for name, part in parts.items()}
    return Resource(
        "pcie_lane",
        resource.number,
        Subsignal("rst", PinsN(" ".join(pins["rst"].names), dir="i"), attrs["rst"]),
        Subsignal("clkreq", PinsN(" ".join(pins["clkreq"].names), dir="o"), attrs["clkreq"]),
        Subsignal("clk", DiffPairs(pins["clk"].p.names[0], pins["clk"].n.names[0], dir="i"), Clock(REFERENCE_HZ)),
        Subsignal("rx", DiffPairs(pins["rx"].p.names[0], pins["rx"].n.names[0], dir="i")),
        Subsignal("tx", DiffPairs(pins["tx"].p.names[0], pins["tx"].n.names[0], dir="o")),
    )


class Pcie7x(wiring.Component):
    """The block at the ports of a :func:`slot`, and in front of it the adapter, whose ``names`` are this component's ports. What is here is in the
    domain ``sync``, for which ``clock`` and ``reset`` are."""

    def __init__(self, ports: Any, names: Collection[str]):
        self._ports = ports
        self._adapter = Series7()
        members = self._adapter.signature.members
        self._names = names
        super().__init__({name: members[name] for name in names} | {"clock": Out(1), "reset": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.adapter = adapter = self._adapter
        block: dict[str, Any] = {}
        for path, member, value in adapter.signature.flatten(adapter):
            if path[0] not in self._names:
                block[f"{'i' if member.flow == Out else 'o'}_{'_'.join(map(str, path))}"] = value
        for name in self._names:
            member, inside, outside = adapter.signature.members[name], getattr(adapter, name), getattr(self, name)
            if member.is_signature:
                wiring.connect(m, inside, wiring.flipped(outside))
            else:
                m.d.comb += inside.eq(outside) if member.flow == In else outside.eq(inside)

        ports = self._ports
        m.submodules.rst_buffer = rst = io.Buffer("i", ports.rst)
        m.submodules.clkreq_buffer = clkreq = io.Buffer("o", ports.clkreq)
        reference, turns_off = Signal(), Signal()
        m.d.comb += clkreq.o.eq(1)
        m.submodules.clk_buffer = Instance(
            "IBUFDS_GTE2", i_I=ports.clk.p, i_IB=ports.clk.n, i_CEB=Const(0), o_O=reference
        )
        m.submodules.block = Instance(
            MODULE,
            **{f"i_{name}": Const(value, bits) for name, (bits, value) in CONSTANT.items()},
            **block,
            # Nothing has to be saved before power is taken away.
            o_cfg_to_turnoff=turns_off,
            i_cfg_turnoff_ok=turns_off,
            o_user_clk_out=self.clock,
            o_user_reset_out=self.reset,
            i_sys_clk=reference,
            i_sys_rst_n=~rst.i,
            i_pci_exp_rxp=ports.rx.p,
            i_pci_exp_rxn=ports.rx.n,
            o_pci_exp_txp=ports.tx.p,
            o_pci_exp_txn=ports.tx.n,
        )
        return m
