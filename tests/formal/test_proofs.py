"""Proofs hold, a wrong design fails one, and the exit codes say so. `make formal` runs all of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

QUICK = (
    "FlowSwap",
    "flow_state_row",
    "rule_lengths",
    "rule_reports",
    "parser_waits",
    "parser_data_8",
    "walker_lies_length",
    "store_waits",
)
"""Proofs and blocks whose proofs take seconds, among them the one that found a length of data that wrapped."""


def prove(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "formal.run", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_proof_holds(name):
    result = prove("--only", name)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "holds" in result.stdout
    assert "fails" not in result.stdout


def test_an_unknown_proof_is_named():
    result = prove("--only", "flow_swop")
    assert result.returncode == 2
    assert "no proof or block 'flow_swop'" in result.stderr
    assert "flow_swap" in result.stderr


def test_a_depth_that_is_none_is_refused():
    result = prove("--depth", "0")
    assert (result.returncode, result.stderr) == (2, "depth is 0; it is a number of cycles\n")


def test_each_claim_says_by_which_method_it_is_shown():
    lines = prove("--list").stdout.splitlines()
    assert len(lines) > 25
    assert all(line.endswith(("(k-induction)", "(induction (PDR))", "(bounded)", "(reached)")) for line in lines)


def test_the_page_has_the_proofs():
    page = (ROOT / "docs" / "formal.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    written = [f"{name.strip('`')}  {block}: {claim} ({method})" for name, block, claim, method in rows]
    assert written == prove("--list").stdout.splitlines()
