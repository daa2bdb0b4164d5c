"""Tables of two feeds of a channel: one copy of each message, and a report that says what became of the feeds."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from hdl.sources import ROOT
from host import replay
from host.capture.packets import Packets
from host.capture.reader import read_packets
from host.capture.write import write_pcap
from host.cli import app
from host.generate import SCHEMA
from host.playback.selection import SelectionError
from tests.host.playback.derived import GROUPS, Derived, generated

DATA = ROOT.parent / "shared/data"
CME = DATA / "cme_mdp3/Cme.Mdp3.Sbe.v6.1.pcap"
CME_SCHEMA = DATA / "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml"
needs_cme = pytest.mark.skipif(not CME.exists(), reason=f"there is no {CME}")
FEED = f"A={GROUPS[0]},B={GROUPS[1]}"


def run(*arguments) -> str:
    done = CliRunner().invoke(app, ["replay", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def packets_of(packets: Packets) -> list[bytes]:
    return [packets.packet(n) for n in range(len(packets))]


@pytest.fixture(scope="module", params=["generated", pytest.param("CME", marks=needs_cme)])
def derived(request, tmp_path_factory):
    """The capture (whatever it is called), its schema, and what must come of it."""
    cme = request.param == "CME"
    packets = read_packets(CME) if cme else generated(1200)
    made = Derived(packets_of(packets), packets.timestamp.tolist())
    assert min(made.recovered, made.swapped, made.datagrams, made.tagged, len(made.missing), *made.won) > 0
    path = tmp_path_factory.mktemp("derived") / "capture"
    path.write_bytes(made.content)
    return path, CME_SCHEMA if cme else SCHEMA, made


@pytest.mark.parametrize("named", [(), ("--feed", FEED)], ids=["found", "named"])
def test_the_report_of_a_derived_capture_is_what_was_done_to_it(derived, tmp_path, named):
    capture, schema, made = derived
    said = run(capture, "--schema", schema, "--out", tmp_path / "out", "--json", tmp_path / "x.json", *named)
    report = json.loads((tmp_path / "x.json").read_text())
    (channel,) = report["feeds"]
    assert [channel["feeds"][side]["packets"] for side in "AB"] == made.packets
    assert [channel["feeds"][side]["won"] for side in "AB"] == made.won
    assert (channel["first"], channel["last"], channel["passed"]) == (
        made.delivered[0],
        made.delivered[-1],
        len(made.delivered),
    )
    assert channel["gap_list"] == [{"first": first, "count": count} for first, count in made.missing]
    assert (channel["gaps"], channel["missing"]) == (len(made.missing), sum(count for _, count in made.missing))
    assert (channel["recovered"], channel["resets"], channel["differing"]) == (made.recovered, 0, 0)
    early = sum(channel["feeds"][side]["early"] for side in "AB")
    assert channel["duplicates"] + early == sum(made.packets) - len(made.delivered)
    assert report["messages"] == made.messages
    capture_counts = report["capture"]
    assert (capture_counts["datagrams"], capture_counts["fragments"]) == (made.datagrams, made.fragments)
    assert capture_counts["packets"] == made.captured
    (warning,) = report["warnings"]
    assert f"read the {made.captured} whole packets before it" in warning
    assert f"{made.messages:,} messages, 0 of them not to their end" in said
    assert f"missing {channel['missing']:,}" in said
    assert f"{GROUPS[1]}" in said


def test_of_a_derived_capture_each_message_comes_once_and_in_order(derived, tmp_path):
    capture, schema, made = derived
    run(capture, "--schema", schema, "--out", tmp_path / "out")
    (partition,) = (tmp_path / "out" / "frames").iterdir()
    assert partition.name == f"channel={str(GROUPS[0]).replace(':', '-')}"
    frames = pd.concat(
        pyarrow.parquet.ParquetFile(path).read().to_pandas() for path in sorted(partition.rglob("*.parquet"))
    )
    gap = frames["kind"] == "GAP"
    of_gaps = frames[gap]
    assert list(zip(of_gaps["instrument_sequence"], of_gaps["sequence"], strict=True)) == made.missing
    numbers = frames["sequence"][~gap].to_numpy().astype(np.int64)
    assert (np.diff(numbers) >= 0).all()
    assert np.unique(numbers).tolist() == made.delivered
    assert set(frames["flow"]) == set(map(str, GROUPS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "whole.pcap"
    write_pcap(path, generated(300))
    return path


def test_without_arbitration_both_copies_are_there(whole, tmp_path):
    run(whole, "--schema", SCHEMA, "--out", tmp_path / "one")
    run(whole, "--schema", SCHEMA, "--out", tmp_path / "both", "--no-arbitrate")
    one, both = (pd.read_parquet(tmp_path / name / "frames") for name in ("one", "both"))
    assert both["channel"].nunique() == 2
    assert len(both) == 2 * len(one)
    for channel in both["channel"].unique():
        assert both[both["channel"] == channel]["sequence"].tolist() == one["sequence"].tolist()
    tables = [pd.read_parquet(tmp_path / name / "BookRefresh.NoMDEntries") for name in ("one", "both")]
    assert len(tables[1]) == 2 * len(tables[0])


def test_books_of_a_channel_are_those_of_one_feed(whole, tmp_path):
    run(whole, "--schema", SCHEMA, "--out", tmp_path / "x.parquet", "--table", "books")
    run(whole, "--schema", SCHEMA, "--out", tmp_path / "a.parquet", "--table", "books", "--channel", GROUPS[0])
    both, one = (pyarrow.parquet.read_table(tmp_path / name) for name in ("x.parquet", "a.parquet"))
    assert both.num_rows > 100
    # Times are those of the copy that was first.
    columns = [name for name in one.column_names if name != "timestamp"]
    assert both.select(columns).to_pylist() == one.select(columns).to_pylist()
    assert "bid_price_10" in both.column_names


def test_books_on_a_grid_have_the_levels_that_are_asked_for(whole, tmp_path):
    said = run(whole, "--schema", SCHEMA, "--out", tmp_path / "out", "--levels", 2, "--grid", "1ms")
    books = pd.read_parquet(tmp_path / "out" / "books")
    assert "ask_price_2" in books
    assert "ask_price_3" not in books
    assert (books["timestamp"].astype("int64") % 1_000_000 == 0).all()
    assert not books.duplicated(["instrument", "timestamp"]).any()
    assert "violations: " in said


def test_batches_bring_books_and_races(whole):
    rows, raced = 0, 0
    batches = list(replay(whole, schema=SCHEMA, levels=3))
    for batch in batches:
        rows += batch.books.num_rows
        raced += len(batch.races)
    assert raced == 300
    (channel,) = batches[-1].report()
    assert channel.duplicates + sum(side.early for side in channel.sides) == 300
    changes = pd.concat(batch.books.to_pandas() for batch in replay(whole, schema=SCHEMA, levels=3))
    assert len(changes) == rows
    with pytest.raises(SelectionError, match="no books were asked for"):
        _ = next(iter(replay(whole, schema=SCHEMA))).books


def test_books_of_an_instrument_are_as_valid_as_those_of_all(whole):
    everything = pd.concat(batch.books.to_pandas() for batch in replay(whole, schema=SCHEMA, levels=1))
    instrument = int(everything["instrument"].iloc[0])
    one = pd.concat(
        batch.books.to_pandas() for batch in replay(whole, schema=SCHEMA, levels=1, instruments=[instrument])
    )
    pd.testing.assert_frame_equal(
        one.reset_index(drop=True),
        everything[everything["instrument"] == instrument].reset_index(drop=True),
        check_dtype=False,
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--grid", "1"], "'1' is no time grid; give a number of ns, us, ms, s, m, h"),
        (["--levels", "1000"], "levels is 1000: a row has 1 to"),
        (["--feed", FEED, "--no-arbitrate"], "--feed says what is arbitrated"),
        (["--feed", FEED.replace("31", "99")], "is not in the captures; their UDP groups: 224.0.31.64:14340"),
        (["--no-frames", "--grid", "1s"], "are of books, which this run does not write"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(whole, tmp_path, arguments, reason):
    done = CliRunner().invoke(
        app, ["replay", str(whole), "--schema", str(SCHEMA), "--out", str(tmp_path / "out"), *arguments]
    )
    assert done.exit_code == 2
    assert reason in done.output
    assert done.output.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@needs_cme
def test_cme_brings_each_number_once_and_b_first(tmp_path):
    run(CME, "--schema", CME_SCHEMA, "--out", tmp_path / "out", "--json", tmp_path / "x.json")
    report = json.loads((tmp_path / "x.json").read_text())
    (channel,) = report["feeds"]
    assert report["packets"] == 10_000
    assert (channel["first"], channel["last"], channel["passed"], channel["missing"]) == (5615, 10614, 5000, 0)
    assert channel["duplicates"] + sum(each["early"] for each in channel["feeds"].values()) == 5000
    assert channel["feeds"]["B"]["won"] / 5000 == pytest.approx(0.85, abs=0.03)
    assert 2 * report["messages"] == 20_546
    frames = pd.read_parquet(tmp_path / "out" / "frames", columns=["sequence", "kind"])
    assert frames["sequence"].nunique() == 5000
    assert "GAP" not in set(frames["kind"])
