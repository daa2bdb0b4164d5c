"""The command, run as its user runs it: real processes, what they print, how they end."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from host.journal import read_journal

FIX_MESSAGES = 128
"""Messages in the FIX captures, streams and logs by others."""

TICKGATE = Path(sys.executable).with_name("tickgate")


def tickgate(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TICKGATE, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with a generated capture, its schema and its limits."""
    folder = tmp_path_factory.mktemp("made")
    done = tickgate("generate", "made.pcap", "--orders", "2000", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["made.pcap", "made.toml", "made.xml"]
    return folder


def replay(made: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return tickgate("replay", "made.pcap", "--schema", "made.xml", "--limits", "made.toml", *more, cwd=made)


def without_rates(result: dict[str, Any]) -> dict[str, Any]:
    """What a replay's result says of the packets, whatever card they went through and how fast."""
    counters = {name: count for name, count in result["counters"].items() if name != "credit_stalls"}
    return {name: each for name, each in result.items() if name not in ("card", "seconds", "cycles")} | {
        "counters": counters
    }


def test_both_cards_print_and_write_the_same_result(made):
    results = []
    for card in ("rtl:", "soft:"):
        done = replay(made, "--card", card, "--json", "result.json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Reconciled: the journal, read again, gives the nodes' state." in done.stdout
        results.append(json.loads((made / "result.json").read_text()))
    rtl, soft = results
    assert rtl["cycles"] > 0
    assert soft["cycles"] is None
    for result in results:
        assert result["messages"] == sum(row["messages"] for row in result["messages_by_type"])
        assert result["accepted"] == result["applied"] > 1500
        assert result["rejected"] > 0
        assert result["malformed"] > 0
        assert result["fills"] > 0
    assert without_rates(rtl) == without_rates(soft)


def test_both_cards_make_the_same_of_fix_by_others(shared_data, made, tmp_path):
    """All captures, byte streams and logs there are. (That each one's frames are equal bit for bit is in tests/cards/test_captures.py.)"""
    files = [
        path
        for path in sorted(shared_data.glob("fix_*/*"))
        if path.name not in ("SOURCE.txt", "COPYING") and "NoMessagesInLog" not in path.name
    ]
    assert len(files) == 14
    results, journals = [], []
    for card in ("rtl:", "soft:"):
        journal, result = tmp_path / card, tmp_path / "result.json"
        done = tickgate(
            "replay", *files, "--schema", "made.xml", "--card", card, "--journal", journal, "--json", result, cwd=made
        )
        assert done.returncode == 0, done.stdout + done.stderr
        results.append(without_rates(json.loads(result.read_text())))
        # Not the files: each segment has a random salt.
        batches = [(batch.frames, batch.decisions, batch.payload) for batch in read_journal(journal)]
        journals.append([[array.tobytes() for array in batch] for batch in batches])
    assert results[0] == results[1]
    assert journals[0] == journals[1]
    assert results[0]["messages"] == FIX_MESSAGES
    assert results[0]["malformed"] == 0


def test_lines_fit_a_screen_of_80_columns_where_there_is_no_terminal(made):
    lines = replay(made, "--card", "soft:").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    header = next(line for line in lines if line.startswith("type"))
    assert header.split() == ["type", "messages", "entries", "frames"]


def test_a_kept_journal_refuses_the_same_orders_again(made, tmp_path):
    first = replay(made, "--card", "soft:", "--journal", tmp_path / "journal", "--json", "first.json")
    assert first.returncode == 0
    second = replay(made, "--card", "soft:", "--journal", tmp_path / "journal", "--json", "second.json")
    assert second.returncode == 0, second.stdout + second.stderr
    again = json.loads((made / "second.json").read_text())
    assert again["accepted"] == 0
    assert again["by_reason"]["DUPLICATE_CLIENT_ORDER_ID"] >= json.loads((made / "first.json").read_text())["accepted"]


def test_without_limits_no_instrument_is_known_and_it_says_so(made):
    done = tickgate("replay", "made.pcap", "--card", "soft:", cwd=made)
    assert done.returncode == 0
    assert "No --limits file was given, so no instrument was known." in done.stdout


BAD = {
    "no such file": (["replay", "nothing.pcap"], "nothing.pcap: no such file"),
    "a directory": (["replay", "."], "is a directory"),
    "an empty file": (["replay", "empty"], "empty"),
    "text instead of a capture": (["replay", "made.toml"], "not a packet capture"),
    "another link type": (["replay", "wifi.pcap"], "wifi.pcap: link type 105, IEEE802_11 (Wi-Fi), at byte offset 20"),
    "damaged compressed data": (["replay", "damaged.gz"], "damaged.gz: gzip data cannot be decompressed"),
    "no such schema": (["replay", "made.pcap", "--schema", "nothing.xml"], "nothing.xml: no such file"),
    "a schema that is no XML": (["replay", "made.pcap", "--schema", "made.toml"], "made.toml:1: not XML"),
    "a schema that is no SBE": (["replay", "made.pcap", "--schema", "page.xml"], "page.xml:1"),
    "another venue's schema": (
        ["replay", "made.pcap", "--schema", "other.xml"],
        "wrong schema: its messages have schema",
    ),
    "no flow": (["replay", "udp.pcap"], "no flow matches: udp.pcap: UDP to 239.77.1.1:14310 (1 packet)"),
    "no such card": (
        ["replay", "made.pcap", "--card", "gpu:"],
        "'gpu:' is no card (there are rtl:, soft:, serial:DEVICE, eth:INTERFACE and pcie:ADDRESS)",
    ),
    "a card that is not there": (
        ["replay", "made.pcap", "--card", "pcie:ffff:ff:1f.7"],
        "pcie: there is no PCI function ffff:ff:1f.7 (lspci -D lists them)",
    ),
    "limits that are no TOML": (["replay", "made.pcap", "--limits", "made.xml"], "made.xml: not a TOML file"),
    "limits that make no sense": (["replay", "made.pcap", "--limits", "odd.toml"], "odd.toml: instrument 'ELM'"),
    "too many sessions": (["generate", "x.pcap", "--sessions", "80"], "more than the card's 64 flows"),
    "no folder to write to": (["generate", "nowhere/x.pcap"], "nowhere/x.pcap: no such file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_clear_line_and_exit_code_2(made, name):
    from host.capture.packets import Packets
    from host.capture.write import udp_packet, write_pcap
    from host.generate.traffic import FEED_SOURCES, FEEDS

    (made / "empty").touch()
    whole = (made / "made.pcap").read_bytes()
    (made / "wifi.pcap").write_bytes(whole[:20] + b"\x69" + whole[21:])
    (made / "damaged.gz").write_bytes(gzip.compress(whole)[:-8] + bytes(8))
    (made / "page.xml").write_text("<html/>")
    (made / "other.xml").write_text((made / "made.xml").read_text().replace('id="77"', 'id="78"'))
    (made / "odd.toml").write_text('[[instrument]]\nsymbol = "ELM"\nreference_price = 4.5\nmaximum_quantity = "1"\n')
    write_pcap(made / "udp.pcap", Packets.of([udp_packet(b"hello", FEED_SOURCES[0], FEEDS[0])]))
    arguments, expected = BAD[name]
    done = tickgate(*arguments, cwd=made)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("tickgate: ")
    assert expected in line


def test_without_a_compiler_the_rtl_card_says_what_to_install(made, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("perl", "make"):
        (programs / name).symlink_to(shutil.which(name))
    done = tickgate(
        "replay",
        "made.pcap",
        "--schema",
        "made.xml",
        cwd=made,
        PATH=str(programs),
        TICKGATE_CACHE=str(tmp_path / "cache"),
    )
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert "g++" in line
    assert "Traceback" not in done.stdout


def test_a_capture_cut_in_the_middle_is_played_to_its_last_whole_packet(made):
    whole = (made / "made.pcap").read_bytes()
    (made / "cut.pcap").write_bytes(whole[: len(whole) // 2 + 1])
    done = tickgate("replay", "cut.pcap", "--card", "soft:", "--schema", "made.xml", cwd=made)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "cut.pcap" in line
    assert "Reconciled" in done.stdout


def _has_orders(journal: Path) -> bool:
    for path in journal.glob("*.journal"):
        with path.open("rb") as segment:
            if segment.read(64).strip(b"\0"):
                return True
    return False


def test_ctrl_c_stops_cleanly_with_what_was_done_so_far(made, tmp_path):
    journal = tmp_path / "journal"
    done = tickgate("generate", "long.pcap", "--orders", "60000", cwd=made)
    assert done.returncode == 0
    process = subprocess.Popen(
        [
            TICKGATE,
            "replay",
            "long.pcap",
            "--schema",
            "made.xml",
            "--limits",
            "made.toml",
            "--json",
            "long.json",
            "--journal",
            str(journal),
        ],
        cwd=made,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The journal's first segment has a header once orders are in it, and the RTL takes several seconds for all of them.
    deadline = time.monotonic() + 240
    while not _has_orders(journal) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=120)
    assert process.returncode == 130, output + error
    assert "Traceback" not in error
    result = json.loads((made / "long.json").read_text())
    assert result["interrupted"]
    assert result["reconciles"]
    assert 0 < result["packets"] == result["counters"]["packets"]
    assert "Stopped after" in output


def test_version_and_help_are_there(tmp_path):
    assert tickgate("--version", cwd=tmp_path).stdout.startswith("tickgate 0.")
    shown = tickgate("replay", "--help", cwd=tmp_path).stdout
    for option in ("--card", "--schema", "--limits", "--journal", "--json"):
        assert option in shown


def test_the_demo_accounts_for_everything_that_it_sent(tmp_path):
    done = tickgate("demo", "--card", "soft:", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "build/demo/summary.json").read_text())
    assert summary["messages_sent"] >= 20_000
    assert summary["messages_sent"] == summary["accepted"] + summary["rejected"] + summary["malformed"]
    assert summary["lost"] == 0
    assert summary["journaled"] == summary["accepted"] + summary["rejected"]
    assert summary["applied"] == summary["accepted"]
    assert summary["fills"] > 0
    assert all(check["closes"] for check in summary["checks"])


def test_out_writes_tables_and_refuses_what_cannot_be(made):
    out = ("replay", "made.pcap", "--schema", "made.xml", "--out")
    done = tickgate(*out, "tables", cwd=made)
    assert done.returncode == 0, done.stderr
    assert "Written to tables." in done.stdout
    for arguments, reason in (
        ((*out, "tables"), "tables: is there already"),
        ((*out, "x.txt"), "no format is called txt"),
        ((*out, "x", "--template", "Nothing"), "has no template Nothing; there are"),
        ((*out, "x", "--to", "eth:lo"), "--out and --to: one of them"),
        (("replay", "made.pcap", "--resume"), "--resume, --levels, --grid and --no-arbitrate are of --out DIR"),
        (("replay", "made.pcap", "--diff", "made.pcap", "--ignore", "time"), "a frame has no field time"),
    ):
        done = tickgate(*arguments, cwd=made)
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.startswith("tickgate: ")
        assert done.stderr.count("\n") == 1
        assert reason in done.stderr
    assert not (made / "x").exists()


def test_diff_ends_with_1_where_runs_differ(made, tmp_path):
    capture = (made / "made.pcap").read_bytes()
    (tmp_path / "cut.pcap").write_bytes(capture[: len(capture) // 2])
    same = tickgate("replay", "made.pcap", "--schema", "made.xml", "--diff", "made.pcap", cwd=made)
    assert same.returncode == 0, same.stdout + same.stderr
    assert "all equal" in same.stdout
    done = tickgate("replay", "made.pcap", "--schema", "made.xml", "--diff", tmp_path / "cut.pcap", cwd=made)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Differs: a frame that only one has" in done.stdout
