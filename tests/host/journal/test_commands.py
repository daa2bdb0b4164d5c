"""tickgate journal: what it prints, and its exit codes."""

import json
import shutil
from decimal import Decimal
from pathlib import Path

import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from click.testing import Result
from typer.testing import CliRunner

from host.cli import BAD_INPUT, app
from host.gateway.verdict import VERDICT_TEXT
from host.journal import Journal, read_journal
from host.journal.layout import segment_path
from tests.host.journal.orders import filled, messages_of, write_random


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["journal", *map(str, arguments)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("journal")
    write_random(directory, 1000, segment_bytes=32 << 10)
    return directory


@pytest.fixture
def journal(whole: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "journal"))


def test_a_whole_journal_is_verified(whole: Path) -> None:
    result = run("verify", whole)
    assert result.exit_code == 0, result.output
    batches = list(read_journal(whole))
    assert f"{len(batches)} batches, 1,036 orders (sequences 1 to 1,036), 6 control records" in result.output


def test_damage_is_exit_code_1_with_file_byte_and_cause(journal: Path) -> None:
    path = segment_path(journal, 2)
    data = bytearray(path.read_bytes())
    data[1000] ^= 16
    path.write_bytes(data)
    result = run("verify", journal)
    assert result.exit_code == 1
    assert f"{path}: byte 64: the CRC of batch" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_torn_tail_is_said_and_is_no_damage(journal: Path) -> None:
    with Journal(journal, segment_bytes=32 << 10) as opened:
        opened.append(filled(b"x" * 3000))
        place = opened.position
    path = segment_path(journal, place.segment)
    data = bytearray(path.read_bytes())
    data[place.offset - 1000 : place.offset] = bytes(1000)
    path.write_bytes(data)
    result = run("verify", journal)
    assert result.exit_code == 0
    assert "a torn tail of" in result.output
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("verify", "nowhere"), "nowhere: no such directory"),
        (("show", "."), "there is no journal in it"),
        (("show", "JOURNAL", "--time", "yesterday", "5"), "'yesterday' is no time"),
        (("export", "JOURNAL", "--out", "orders.txt"), "orders.txt: the ending is none of parquet, arrow, csv"),
        (("export", "JOURNAL", "--out", "missing/orders.csv"), "missing: no such directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*(str(whole) if each == "JOURNAL" else each for each in arguments))
    assert result.exit_code == BAD_INPUT, result.output
    assert text in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_another_version_is_exit_code_1_when_verified(journal: Path) -> None:
    path = segment_path(journal, 1)
    data = bytearray(path.read_bytes())
    data[8] = 1
    path.write_bytes(data)
    result = run("verify", journal)
    assert result.exit_code == 1
    assert "version 1, this program reads 2" in result.stderr


def test_orders_are_shown_in_words(whole: Path) -> None:
    batch = next(read_journal(whole))
    frame, decision = batch.frames[0], batch.decisions[0]
    lines = run("show", whole, "--limit", 3).output.splitlines()
    assert len(lines) == 4
    row = dict(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True))
    assert row["sequence"] == "1"
    assert row["time"].startswith("2001-09-09 01:46:39.99")
    assert row["side"] == "buy"
    assert Decimal(row["quantity"]) == Decimal(int(frame["quantity"])) / 10**8
    assert Decimal(row["price"]) == Decimal(int(frame["price"])) / 10**9
    assert row["symbol"] == "SYM0"
    assert row["verdict"] == VERDICT_TEXT[int(decision["verdict"])]
    assert row["node"] == "0"


def test_json_has_every_column_and_the_raw_message_on_demand(whole: Path) -> None:
    shown = [json.loads(line) for line in run("show", whole, "--flow", 2, "--json", "--raw").output.splitlines()]
    expected = [
        (batch.first_sequence + place, messages_of(batch)[place].decode())
        for batch in read_journal(whole)
        for place in range(len(batch))
        if batch.frames[place]["flow"] == 2
    ]
    assert [(row["sequence"], row["message"]) for row in shown] == expected
    assert {row["flow"] for row in shown} == {2}


def test_an_order_is_found_by_its_identifier(whole: Path) -> None:
    shown = [
        json.loads(line) for line in run("show", whole, "--client-order-id", "id-333", "--json").output.splitlines()
    ]
    assert shown
    assert {row["client_order_id"] for row in shown} == {"id-333"}


def test_control_records_are_shown(whole: Path) -> None:
    shown = [json.loads(line) for line in run("show", whole, "--controls").output.splitlines()]
    assert [row["first"] for row in shown] == [row["before_sequence"] - 38 for row in shown]
    assert {row["type"] for row in shown} == {"weights"}


def test_exports_hold_every_order(whole: Path, tmp_path: Path) -> None:
    expected = [message for batch in read_journal(whole) for message in messages_of(batch)]
    prices = [Decimal(int(price)) / 10**9 for batch in read_journal(whole) for price in batch.frames["price"]]
    tables = {}
    for name in ("parquet", "arrow", "csv"):
        out = tmp_path / f"orders.{name}"
        result = run("export", whole, "--out", out, "--raw")
        assert result.exit_code == 0, result.output
        assert f"{len(expected):,} orders" in result.output
    tables["parquet"] = pyarrow.parquet.read_table(tmp_path / "orders.parquet")
    tables["arrow"] = pyarrow.feather.read_table(tmp_path / "orders.arrow")
    assert tables["parquet"].equals(tables["arrow"])
    assert tables["parquet"]["message"].to_pylist() == expected
    assert tables["parquet"]["price"].to_pylist() == prices
    assert tables["parquet"]["sequence"].to_pylist() == list(range(1, len(expected) + 1))
    text = pyarrow.csv.read_csv(tmp_path / "orders.csv")
    assert text["message"].to_pylist() == [message.decode().replace("\x01", "|") for message in expected]
    assert text["symbol"].to_pylist() == tables["parquet"]["symbol"].to_pylist()


def test_a_journal_of_no_orders_gives_a_table_of_no_rows(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal", segment_bytes=8192) as journal:
        journal.append_control({"type": "kill"})
        journal.commit()
    assert run("export", tmp_path / "journal", "--out", tmp_path / "none.parquet").exit_code == 0
    table = pyarrow.parquet.read_table(tmp_path / "none.parquet")
    assert len(table) == 0
    assert "client_order_id" in table.column_names
    assert run("verify", tmp_path / "journal").exit_code == 0
