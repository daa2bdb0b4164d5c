"""What a new user gives wrongly to `tickgate replay --out`: exit code 2, one line that says what to do, and nothing that looks like a result."""

import resource
from pathlib import Path

import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from host.capture.write import write_pcap
from host.cli import app
from host.generate import SCHEMA
from host.playback.batches import Playback
from tests.host.playback.derived import GROUPS, generated


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A capture and what is none."""
    folder = tmp_path_factory.mktemp("given")
    write_pcap(folder / "feeds.pcap", generated(2000))
    (folder / "notes.txt").write_text("Captured on Monday.\nNothing special.\n")
    (folder / "empty.pcap").write_bytes(b"")
    (folder / "header.pcap").write_bytes((folder / "feeds.pcap").read_bytes()[:24])
    text = SCHEMA.read_text()
    assert 'id="77"' in text
    (folder / "other.xml").write_text(text.replace('id="77"', 'id="78"', 1))
    (folder / "page.xml").write_text("<html><body>404</body></html>")
    return folder


@pytest.mark.parametrize("out", ["out", "out.csv"])
@pytest.mark.parametrize(
    ("capture", "options", "reason"),
    [
        ("notes.txt", [], "notes.txt: "),
        ("empty.pcap", [], "empty.pcap: the file is empty, capture again"),
        ("header.pcap", [], "header.pcap"),
        ("missing.pcap", [], "missing.pcap: no such file"),
        ("feeds.pcap", ["--schema", "other.xml"], "wrong schema: its messages have schema id 77, the schema"),
        ("feeds.pcap", ["--schema", "page.xml"], "page.xml"),
        ("feeds.pcap", ["--schema", "feeds.pcap"], "feeds.pcap"),
        ("feeds.pcap", [], "UDP is read as SBE when there is a --schema"),
        ("feeds.pcap", ["--schema", SCHEMA, "--feed", f"A={GROUPS[0]}"], "has no B; a channel is A=ADDRESS:PORT,B="),
        ("feeds.pcap", ["--schema", SCHEMA, "--feed", f"A={GROUPS[0]},B=224.9.9.9:1"], "is not in the captures"),
        ("feeds.pcap", ["--schema", SCHEMA, "--channel", "224.9.9.9:1"], "there is no channel 224.9.9.9:1"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(folder, tmp_path, monkeypatch, capture, options, reason, out):
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, ["replay", capture, *map(str, options), "--out", str(tmp_path / out)])
    assert done.exit_code == 2, done.output
    assert done.output.count("\n") == 1, done.output
    assert reason in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def compiled(folder) -> None:
    """What is compiled for tables is in Numba's cache, whose files are larger."""
    arguments = ["replay", folder / "feeds.pcap", "--schema", SCHEMA, "--out", folder / "compiled"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, done.output


@pytest.fixture
def small_files(monkeypatch):
    """No file may become larger than 16 KiB, as on a full disk but for everyone to try; from the time on when the card's ring is there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(playback: Playback, real=Playback.open_card):
        card = real(playback)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, before[1]))
        return card

    monkeypatch.setattr(Playback, "open_card", limited)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("out", ["out", "out.parquet", "out.arrow", "out.csv"])
def test_where_a_file_may_not_grow_nothing_looks_whole(folder, compiled, tmp_path, small_files, out):
    arguments = ["replay", folder / "feeds.pcap", "--schema", SCHEMA, "--out", tmp_path / out]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1, done.output
    assert "cannot be written (File too large)" in done.output
    assert not (tmp_path / out).exists()
    for path in tmp_path.rglob("*.parquet"):
        pyarrow.parquet.ParquetFile(path).read()
