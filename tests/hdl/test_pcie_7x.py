"""The card at Vivado's 7 Series block: every input of the block is driven, its settings are those of the card, its lane is that of the board's pins."""

import re

import pytest
from amaranth.lib.wiring import In

from hdl.boards import find_board
from hdl.boards.on_platform import OnPlatform
from hdl.boards.pcie_7x import CONSTANT, SETTINGS, creating_script, placing_script
from hdl.boards.top import WIRES, Top
from hdl.pcie_card import PcieCard
from hdl.pcie_series7 import Series7
from sim import toolchain
from sim.benches.ring_source import RingSource

INPUTS = {
    "pci_exp_rxp pci_exp_rxn": 1,
    "s_axis_tx_tdata": 64,
    "s_axis_tx_tkeep": 8,
    "s_axis_tx_tlast s_axis_tx_tvalid": 1,
    "s_axis_tx_tuser": 4,
    "m_axis_rx_tready": 1,
    "tx_cfg_gnt rx_np_ok rx_np_req": 1,
    "fc_sel": 3,
    "cfg_trn_pending cfg_pm_halt_aspm_l0s cfg_pm_halt_aspm_l1 cfg_pm_force_state_en": 1,
    "cfg_pm_force_state": 2,
    "cfg_dsn": 64,
    "cfg_interrupt cfg_interrupt_assert cfg_interrupt_stat": 1,
    "cfg_interrupt_di": 8,
    "cfg_pciecap_interrupt_msgnum": 5,
    "cfg_turnoff_ok cfg_pm_wake cfg_pm_send_pme_to": 1,
    "cfg_ds_bus_number": 8,
    "cfg_ds_device_number": 5,
    "cfg_ds_function_number": 3,
    "sys_clk sys_rst_n": 1,
}
"""Inputs of the block with these interfaces and one lane, by PG054."""

OUTPUTS = {
    "pci_exp_txp pci_exp_txn user_clk_out user_reset_out user_lnk_up": 1,
    "s_axis_tx_tready m_axis_rx_tlast m_axis_rx_tvalid": 1,
    "m_axis_rx_tdata": 64,
    "m_axis_rx_tkeep": 8,
    "m_axis_rx_tuser": 22,
    "fc_ph": 8,
    "fc_pd": 12,
    "cfg_command cfg_dcommand": 16,
    "cfg_to_turnoff": 1,
    "cfg_bus_number": 8,
    "cfg_device_number": 5,
    "cfg_function_number": 3,
}
"""Outputs that are made use of."""


def ports(table: dict[str, int]) -> dict[str, int]:
    return {name: bits for names, bits in table.items() for name in names.split()}


@pytest.fixture(scope="module")
def files():
    """What is made for Vivado of a card without parsers."""
    toolchain.apply()
    board = find_board("nitefury")
    top = Top(board, board.way(), PcieCard(RingSource()))
    plan = board.make_platform().build(OnPlatform(top), do_build=False, debug_verilog=False)
    return {name: text if isinstance(text, str) else text.decode() for name, text in plan.files.items()}


def test_the_block_has_its_documented_ports(files):
    [instance] = re.findall(r"^  pcie_7x_0 block \((.*?)^  \);", files["top.v"], re.DOTALL | re.MULTILINE)
    connected = dict(re.findall(r"\.(\w+)\(([^\n]+)\)", instance))
    assert set(connected) == {*ports(INPUTS), *ports(OUTPUTS)}
    assert all(connected.values()), "a port that is left open"
    for name, (bits, value) in CONSTANT.items():
        assert ports(INPUTS)[name] == bits
        assert connected[name] == f"{bits}'h{value:0{-(-bits // 4)}x}"


def test_the_streams_are_as_wide_as_the_blocks():
    adapter = Series7()
    adapter._MustUse__used = True  # for its ports alone
    for path, member, value in adapter.signature.flatten(adapter):
        if path[0] not in WIRES["pcie"]:
            assert ports(OUTPUTS if member.flow is In else INPUTS)["_".join(path)] == len(value), path


def test_pins_are_those_of_the_first_lane(files):
    constraints = files["top.xdc"]
    places = dict(re.findall(r'set_property LOC (\w+) \[get_ports "pcie_lane_0__(\w+)"\]', constraints))
    assert places == {
        "J1": "rst__io",
        "G1": "clkreq__io",
        "F6": "clk__p",
        "E6": "clk__n",
        "B10": "rx__p",
        "A10": "rx__n",
        "B6": "tx__p",
        "A6": "tx__n",
    }
    assert not re.search(r"IOSTANDARD .*pcie_lane_0__(clk|rx|tx)__", constraints)
    assert "-period 10.0" in constraints
    assert "IBUFDS_GTE2" in files["top.v"]


def test_settings_are_those_of_the_card():
    script = creating_script()
    assert script.startswith("create_ip -vendor xilinx.com -library ip -name pcie_7x -module_name pcie_7x_0\n")
    for line in (
        "CONFIG.Vendor_ID {10EE}",
        "CONFIG.Device_ID {9034}",
        "CONFIG.Maximum_Link_Width {X1}",
        "CONFIG.Link_Speed {5.0_GT/s}",
        "CONFIG.Interface_Width {64_bit}",
        "CONFIG.User_Clk_Freq {62.5}",
        "CONFIG.Bar0_64bit {true}",
        "CONFIG.Bar0_Prefetchable {false}",
        "CONFIG.Bar0_Scale {Kilobytes}",
        "CONFIG.Bar0_Size {64}",
        "CONFIG.Max_Payload_Size {512_bytes}",
        "CONFIG.cfg_fc_if {true}",
        "CONFIG.MSI_Enabled {false}",
    ):
        assert f"    {line} \\\n" in script
    assert script.endswith("synth_ip [get_ips pcie_7x_0]")
    assert float(str(SETTINGS["User_Clk_Freq"])) * 1e6 == find_board("nitefury").way().clock_hz


def test_the_lane_leaves_the_blocks_own_place_first():
    assert placing_script("GTPE2_CHANNEL_X0Y6").splitlines()[1:] == [
        "reset_property LOC $lane",
        "set_property LOC GTPE2_CHANNEL_X0Y6 $lane",
    ]
