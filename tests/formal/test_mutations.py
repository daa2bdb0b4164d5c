"""The seeded faults are of the present sources, and are found."""

import subprocess
import sys
from pathlib import Path

import pytest

from formal.mutations import BENCH, FAULTS, PROOF
from sim.benches import NAMES

ROOT = Path(__file__).resolve().parents[2]

PARSER = ("hdl/fix_", "hdl/flow_swap.py", "hdl/crc64.py", "hdl/fixed_point.py")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_seeded_in_one_place(fault):
    assert (ROOT / fault.file).read_text().count(fault.old) == 1
    assert fault.new != fault.old


def test_twenty_faults_and_more_are_in_the_parser():
    assert sum(fault.file.startswith(PARSER) for fault in FAULTS) >= 20
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_what_finds_a_fault_exists():
    listed = subprocess.run(
        [sys.executable, "-m", "formal.run", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    proofs = {line.split()[0] for line in listed.splitlines()}
    for fault in FAULTS:
        finder, name = fault.found_by
        assert name in {PROOF: proofs, BENCH: set(NAMES)}[finder], fault.name


@pytest.mark.slow
def test_a_seeded_fault_is_found():
    result = subprocess.run(
        [sys.executable, "-m", "formal.mutations", "--only", "a row just computed is not seen"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "found" in result.stdout
