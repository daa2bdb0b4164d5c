"""Captures to tables: what readers of data sets find, and that nothing half-written looks whole."""

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from hdl.frame import Kind
from hdl.sbe_venue import load_venue
from host import replay
from host.capture.packets import Packets
from host.capture.reader import open_captures, read_packets
from host.capture.write import write_pcap
from host.generate import SCHEMA, generate
from host.playback import dataset
from host.playback.batches import Playback
from host.playback.commands import TableWriter
from host.playback.convert import Conversion
from host.playback.dataset import Dataset, OutError
from host.playback.partition import DAY
from host.playback.selection import Selection, SelectionError, channel_name

ENTRIES = "BookRefresh.NoMDEntries"


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    """FIX orders and two feeds of market data, over midnight."""
    path = tmp_path_factory.mktemp("made") / "made.pcap"
    made = generate(1500, feeds=2, malformed=0.02)
    made.write(path)
    packets = read_packets(path)
    middle = packets.timestamp[len(packets) // 2]
    midnight = (middle // np.uint64(DAY) + np.uint64(1)) * np.uint64(DAY)
    write_pcap(path, Packets(packets.data, packets.offset, packets.length, packets.timestamp + (midnight - middle)))
    return path


def write(capture: Path, out: Path, selection: Selection = Selection(), **options):  # noqa: B008
    """Convert a capture; returns what was done."""
    return TableWriter(open_captures([capture]), load_venue(SCHEMA), "soft:", selection, out, **options).run(
        lambda progress: None
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tables(capture) -> Path:
    out = capture.with_name("tables")
    write(capture, out)
    return out


def content(folder: Path) -> dict[str, pa.Table]:
    """All files of a folder by name, dictionaries as their texts: which texts came first is no difference."""
    return {
        path.relative_to(folder).as_posix(): plain(pyarrow.parquet.ParquetFile(path).read())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def plain(table: pa.Table) -> pa.Table:
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            table = table.set_column(number, field.name, table.column(number).cast(pa.string()))
    return table


def test_batches_have_the_same_frames_and_rows_as_the_folder(capture, tables):
    frames = entries = messages = 0
    for batch in replay(capture, schema=SCHEMA):
        assert batch.frames.base is not None
        frames += len(batch.frames)
        entries += batch.table(ENTRIES).num_rows
        messages += batch.table("BookRefresh").num_rows
        update = batch.frames[batch.frames["kind"] == Kind.BOOK_UPDATE][0]
        assert batch.message(update) in batch.packets.data.tobytes()
    assert frames == len(pd.read_parquet(tables / "frames")) > 3000
    assert entries == len(pd.read_parquet(tables / ENTRIES)) > 500
    assert messages == len(pd.read_parquet(tables / "BookRefresh")) > 100


def test_a_table_has_what_the_frames_have(capture):
    for batch in replay(capture, schema=SCHEMA, templates=["BookRefresh"]):
        table = batch.table(ENTRIES)
        frames = batch.frames[batch.frames["kind"] == Kind.BOOK_UPDATE]
        assert len(frames) == len(table)
        assert table.column("SecurityID").to_numpy().tolist() == frames["instrument"].tolist()
        prices = table.column("MDEntryPx").to_pylist()
        assert [0 if each is None else int(each * 10**9) for each in prices] == frames["price"].tolist()
        assert batch.table("TradeSummary").num_rows == 0
    with pytest.raises(SelectionError, match="there is no table Nothing; of this batch there are BookRefresh"):
        batch.table("Nothing")


def test_pandas_polars_and_duckdb_read_a_folder_as_it_is(tables):
    pattern = f"{tables}/{ENTRIES}/**/*.parquet"
    of_pandas = pd.read_parquet(tables / ENTRIES)
    of_polars = pl.read_parquet(tables / ENTRIES, hive_partitioning=True)
    of_duckdb = duckdb.sql(f"select * from read_parquet('{pattern}', hive_partitioning = true)").df()
    assert len(of_pandas) == len(of_polars) == len(of_duckdb)
    assert list(of_pandas.columns) == of_polars.columns == list(of_duckdb.columns)
    # Two feeds of one channel, and of the clients' sessions each its own.
    assert of_pandas["channel"].nunique() == 1
    assert of_pandas["date"].nunique() == 2
    total = sum(price for price in of_pandas["MDEntryPx"] if price is not None)
    assert of_polars["MDEntryPx"].sum() == total
    assert set(of_pandas["MDUpdateAction"].dropna()) <= {"New", "Change", "Delete"}
    frames = pl.read_parquet(tables / "frames", hive_partitioning=True)
    assert frames["channel"].n_unique() > 2
    assert frames.schema["timestamp"] == pl.Datetime("ns", "UTC")
    assert frames.filter(pl.col("kind") == "NEW_ORDER")["symbol"].null_count() < frames.height
    joined = duckdb.sql(
        f"""select count(*), count(distinct m."@row") from '{pattern}' e
        join '{tables}/BookRefresh/**/*.parquet' m on e."@parent" = m."@row" and e.channel = m.channel"""
    ).fetchall()
    assert joined[0][0] == len(of_pandas)


def test_a_partition_has_the_rows_of_its_channel_and_day_in_order(tables):
    for path in (tables / "BookRefresh").rglob("*.parquet"):
        table = pyarrow.parquet.ParquetFile(path).read()
        times = table.column("@timestamp").cast(pa.int64()).to_numpy()
        assert (np.diff(table.column("@row").to_numpy().astype(np.int64)) > 0).all()
        date = np.datetime64(path.parent.name.removeprefix("date="))
        assert (times.astype("datetime64[ns]").astype("datetime64[D]") == date).all()
        flows = set(table.column("@flow").to_pylist())
        assert {flow.replace(":", "-") for flow in flows} == {path.parent.parent.name.removeprefix("channel=")}


def test_decimals_as_whole_numbers_say_their_exponent(capture, tmp_path):
    write(capture, tmp_path / "out", decimals="int64")
    path = next((tmp_path / "out" / ENTRIES).rglob("*.parquet"))
    field = pyarrow.parquet.read_schema(path).field("MDEntryPx")
    assert (field.type, field.metadata[b"exponent"]) == (pa.int64(), b"-7")


@pytest.mark.parametrize("name", ["x.arrow", "x.csv", "x.parquet"])
def test_a_file_has_one_table_in_the_captures_order(capture, tables, tmp_path, name):
    for table in ("frames", ENTRIES):
        write(capture, tmp_path / name, table=table)
        path = tmp_path / name
        if name.endswith(".arrow"):
            frame = pl.from_arrow(pyarrow.ipc.open_file(path).read_all())
        else:
            frame = pl.read_csv(path, infer_schema_length=None) if name.endswith(".csv") else pl.read_parquet(path)
        assert frame.height == len(pd.read_parquet(tables / table))
        assert [each.name for each in tmp_path.iterdir()] == [name]


def small_parts(monkeypatch) -> None:
    monkeypatch.setattr(dataset, "PART_BYTES", 20_000)
    monkeypatch.setattr(dataset, "HELD_BYTES", 100_000)
    monkeypatch.setattr("host.playback.convert.TABLE_PACKETS", 200)


def test_a_run_that_was_interrupted_goes_on_to_the_same_result(capture, tmp_path, monkeypatch):
    small_parts(monkeypatch)
    write(capture, tmp_path / "whole")
    out = tmp_path / "out"
    for share in (3, 2):
        writer = TableWriter(open_captures([capture]), load_venue(SCHEMA), "soft:", Selection(), out, resume=share == 2)

        def show(progress, writer=writer, share=share):
            writer.stop = progress.packets > len(read_packets(capture)) // share

        assert writer.run(show).interrupted
        assert not out.exists()
    parts = list((tmp_path / "out.partial").rglob("*.parquet"))
    assert parts
    # What a crash may leave: a part that is not in the state, and a torn line in it.
    (parts[0].parent / "part-999999.parquet").write_bytes(b"PAR1")
    with (tmp_path / "out.partial" / dataset.STATE).open("a") as state:
        state.write('{"table": "frames", "parti')
    with pytest.raises(OutError, match="go on with --resume"):
        write(capture, out)
    with pytest.raises(OutError, match=r"of another run \(decimals: decimal128, not int64\)"):
        write(capture, out, resume=True, decimals="int64")
    write(capture, out, resume=True)
    assert content(out) == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_a_full_disk_leaves_nothing_that_looks_whole(capture, tmp_path, monkeypatch):
    small_parts(monkeypatch)
    write(capture, tmp_path / "whole")
    written = 0

    def fail(table, path, real=dataset.write_parquet):
        nonlocal written
        written += 1
        if written == 4:
            path.write_bytes(b"PAR1 and then")
            raise OSError(28, "No space left on device")
        real(table, path)

    with monkeypatch.context() as broken:
        broken.setattr(dataset, "write_parquet", fail)
        with pytest.raises(OutError, match=r"cannot be written \(No space left on device\); whole parts are kept"):
            write(capture, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    left = [path for path in (tmp_path / "out.partial").rglob("*") if path.is_file()]
    assert len(left) == 4  # three parts and the state
    for path in left:
        if path.name != dataset.STATE:
            pyarrow.parquet.ParquetFile(path).read()
    write(capture, tmp_path / "out", resume=True)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 300 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("name", ["out", "out.arrow", "out.csv"])
def test_a_full_disk_ends_the_command_in_one_line(capture, small_disk, name):
    script = "import sys; from host.cli import main; sys.argv[0] = 'tickgate'; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "replay", capture, "--schema", SCHEMA, "--out", small_disk / name],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot be written (No space left on device)" in done.stderr
    assert not (small_disk / name).exists()
    for path in small_disk.rglob("*.parquet"):
        pyarrow.parquet.ParquetFile(path).read()


def test_only_what_is_selected_is_written(capture, tmp_path, tables):
    everything = pd.read_parquet(tables / ENTRIES)
    instrument = int(everything["SecurityID"].iloc[0])
    flow = next(iter(everything["channel"])).replace("-", ":")
    write(capture, tmp_path / "out", Selection((str(instrument),), ("BookRefresh",), (flow,)))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["BookRefresh", ENTRIES, "frames"]
    chosen = pd.read_parquet(tmp_path / "out" / ENTRIES)
    wanted = everything[(everything["SecurityID"] == instrument) & (everything["channel"] == flow.replace(":", "-"))]
    assert chosen["RptSeq"].tolist() == wanted["RptSeq"].tolist()
    messages = pd.read_parquet(tmp_path / "out" / "BookRefresh")
    assert set(chosen["@parent"]) == set(messages["@row"])
    assert set(pd.read_parquet(tmp_path / "out" / "frames")["instrument"]) == {instrument}


def test_a_time_window_is_of_packets(capture):
    packets = read_packets(capture)
    first, last = int(packets.timestamp[100]), int(packets.timestamp[300])
    batches = list(replay(capture, schema=SCHEMA, start=first, end=last))
    times = np.concatenate([batch.packets.timestamp for batch in batches])
    assert times.tolist() == [time for time in packets.timestamp.tolist() if first <= time < last]


@pytest.mark.parametrize(
    ("selection", "reason"),
    [
        (Selection(templates=("BookRefesh",)), "has no template BookRefesh; there are BookRefresh"),
        (Selection(channels=("224.9.9.9:1",)), "there is no channel 224.9.9.9:1; there are "),
        (Selection(instruments=("987654",)), "no message is of instrument 987654; there are "),
    ],
)
def test_what_is_not_there_is_named_with_what_is(capture, tmp_path, selection, reason):
    with pytest.raises(SelectionError, match=reason):
        write(capture, tmp_path / "out", selection)
    assert not (tmp_path / "out").exists()


def test_entries_of_an_instrument_are_a_file_without_a_card(capture, tables, tmp_path):
    everything = pd.read_parquet(tables / ENTRIES)
    instrument = int(everything["SecurityID"].iloc[0])
    write(capture, tmp_path / "x.csv", Selection((str(instrument),)), table=ENTRIES)
    chosen = pl.read_csv(tmp_path / "x.csv", infer_schema_length=None)
    assert sorted(chosen["RptSeq"]) == sorted(everything["RptSeq"][everything["SecurityID"] == instrument])
    with pytest.raises(SelectionError, match=f"there are .*{instrument}"):
        write(capture, tmp_path / "y.csv", Selection(("987654",)), table=ENTRIES)


def test_a_folder_is_never_written_over(tables, capture, tmp_path):
    with pytest.raises(OutError, match="is there already"):
        write(capture, tables)
    with pytest.raises(OutError, match="no format is called xlsx"):
        write(capture, tmp_path / "out.xlsx")
    with pytest.raises(OutError, match="there is no folder"):
        write(capture, tmp_path / "missing" / "out.csv")
    with pytest.raises(SelectionError, match="there is no table Nothing; there are frames, books, "):
        write(capture, tmp_path / "out.csv", table="Nothing")


def test_memory_is_bounded_by_what_is_held(capture, tmp_path):
    playback = Playback(open_captures([capture]), load_venue(SCHEMA))
    sink = Dataset(tmp_path / "out", list(map(channel_name, playback.flows)), {}, part_bytes=10_000, held_bytes=50_000)
    most = 0

    def show(progress):
        nonlocal most
        most = max(most, sink.held_bytes)

    Conversion(playback, sink).run(show)
    assert 0 < most <= 50_000
    assert len(list((tmp_path / "out" / "frames").rglob("*.parquet"))) > 5
