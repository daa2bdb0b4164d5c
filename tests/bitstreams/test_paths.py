"""Slowest paths from SDF: which registers, through what, how long."""

import pytest

from bitstreams.paths import read_delays, signal_name, worst_paths

# Two registers a and b, a LUT of y and a carry cell in front of a register sum, a LUT in front of its enable.
PLACED = r"""
(DELAYFILE
  (CELL
    (CELLTYPE "top")
    (INSTANCE )
    (DELAY
      (ABSOLUTE
        (INTERCONNECT dut.a\[3\]_TRELLIS_FF_Q/Q dut.y\[0\]_LUT4_Z/A (400:500:600) (400:500:600))
        (INTERCONNECT b_TRELLIS_FF_Q/Q dut.y\[0\]_LUT4_Z/B (10:10:10) (10:10:10))
        (INTERCONNECT dut.y\[0\]_LUT4_Z/F dut.sum\[0\]_CCU2C_S0\$CCU2_COMB0/A (100:200:300) (100:200:300))
        (INTERCONNECT dut.sum\[0\]_CCU2C_S0\$CCU2_COMB0/FCO dut.sum\[1\]_CCU2C_S0\$CCU2_COMB1/FCI (0:0:0) (0:0:0))
        (INTERCONNECT dut.sum\[1\]_CCU2C_S0\$CCU2_COMB1/F dut.sum\[1\]_TRELLIS_FF_Q/DI (0:0:0) (0:0:0))
        (INTERCONNECT dut.y\[0\]_LUT4_Z/F dut.sum\[1\]_TRELLIS_FF_Q/CE (50:50:50) (50:50:50))
      )
    )
  )
  (CELL
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE dut.a\[3\]_TRELLIS_FF_Q)
    (DELAY (ABSOLUTE
        (IOPATH CLK Q (300:300:300) (300:300:300))
    ))
    (TIMINGCHECK
      (SETUPHOLD (posedge DI) (posedge CLK) (0:0:0) (0:0:0))
    )
  )
  (CELL
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE b_TRELLIS_FF_Q)
    (DELAY (ABSOLUTE
        (IOPATH CLK Q (300:300:300) (300:300:300))
    ))
    (TIMINGCHECK
      (SETUPHOLD (posedge DI) (posedge CLK) (0:0:0) (0:0:0))
    )
  )
  (CELL
    (CELLTYPE "TRELLIS_COMB")
    (INSTANCE dut.y\[0\]_LUT4_Z)
    (DELAY (ABSOLUTE
        (IOPATH A F (140:140:140) (140:140:140))
        (IOPATH B F (140:140:140) (140:140:140))
    ))
  )
  (CELL
    (CELLTYPE "TRELLIS_COMB")
    (INSTANCE dut.sum\[0\]_CCU2C_S0\$CCU2_COMB0)
    (DELAY (ABSOLUTE
        (IOPATH A FCO (250:250:250) (250:250:250))
    ))
  )
  (CELL
    (CELLTYPE "TRELLIS_COMB")
    (INSTANCE dut.sum\[1\]_CCU2C_S0\$CCU2_COMB1)
    (DELAY (ABSOLUTE
        (IOPATH FCI F (60:60:60) (60:60:60))
    ))
  )
  (CELL
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE dut.sum\[1\]_TRELLIS_FF_Q)
    (DELAY (ABSOLUTE
        (IOPATH CLK Q (300:300:300) (300:300:300))
    ))
    (TIMINGCHECK
      (SETUPHOLD (posedge DI) (posedge CLK) (100:150:180) (90:95:99))
      (SETUPHOLD (posedge CE) (posedge CLK) (10:10:10) (0:0:0))
    )
  )
)
"""


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("dut.framer.state[2]_TRELLIS_FF_Q", "framer.state[2]"),
        ("dut.sum[4]_CCU2C_S0$CCU2_COMB1", "sum[4]"),
        ("dut.sum_LUT4_Z_3", "sum"),
        ("dut.sum_LUT4_Z_A_LUT4_Z", "~sum"),
        ("dut.sum_LUT4_B", "~sum"),
        ("dut.i__payload[7]_LUT4_C", "~i.payload[7]"),
        ("i__payload[7]_TRELLIS_FF_Q", "port i.payload[7]"),
        ("dut.rows.0.5_DO[1]_DP16KD_DOA0", "rows.0.5_DO[1]"),
        ("dut.rows.0.5$DPRAM_COMB1", "rows.0.5"),
        ("dut.sum_SB_LUT4_O_I1_SB_LUT4_O_LC", "~sum"),
    ],
)
def test_a_cell_is_named_after_the_signal_that_it_drives_or_is_near_to(cell: str, name: str) -> None:
    assert signal_name(cell, {}) == name


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        ("dut.beat[17]_LUT4_A", "~beat.count[1]"),
        ("o__payload[3]_TRELLIS_FF_Q", "port o.payload.last"),
        ("dut.beat[18]_TRELLIS_FF_Q", "beat[18]"),
    ],
)
def test_a_bit_of_a_structure_is_named_after_its_field(cell: str, name: str) -> None:
    fields = {"dut.beat[17]": "dut.beat.count[1]", "dut.o__payload[3]": "dut.o__payload.last"}
    assert signal_name(cell, fields) == name


class TestWorstPaths:
    def test_a_path_goes_from_register_to_register_with_setup_time(self) -> None:
        worst = worst_paths(read_delays(PLACED.splitlines()), 5, {})[0]
        assert (worst.start, worst.end, worst.through) == ("a[3]", "sum[1]", ["y"])
        assert worst.routing_ns == pytest.approx(0.600 + 0.300)
        assert worst.logic_ns == pytest.approx(0.300 + 0.140 + 0.250 + 0.060 + 0.180)

    def test_a_carry_chain_is_one_hop(self) -> None:
        worst = worst_paths(read_delays(PLACED.splitlines()), 5, {})[0]
        assert [(hop.signal, hop.kind, hop.routing_ns) for hop in worst.hops] == [
            ("a[3]", "", 0.0),
            ("y[0]", "", 0.6),
            ("sum[1]", "carry chain", 0.3),
        ]
        assert "1.83 ns, 0.93 ns logic + 0.90 ns routing in 2 wires" in worst.sentence()

    def test_the_slowest_comes_first_and_each_pair_of_registers_once(self) -> None:
        paths = worst_paths(read_delays(PLACED.splitlines()), 5, {})
        assert [(path.start, path.end) for path in paths] == [("a[3]", "sum[1]"), ("a[3]", "enable of sum[1]")]

    def test_no_more_than_asked_for(self) -> None:
        assert len(worst_paths(read_delays(PLACED.splitlines()), 1, {})) == 1

    def test_paths_of_cells_on_other_clocks_are_left_out(self) -> None:
        delays = read_delays(PLACED.splitlines())
        assert worst_paths(delays.without({"dut.sum[1]_TRELLIS_FF_Q"}), 5, {}) == []
        assert worst_paths(delays.without({"dut.other"}), 5, {}) == worst_paths(delays, 5, {})
