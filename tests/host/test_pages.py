"""The pages of docs/ that are made from tables say what the tables say."""

from pathlib import Path

import pytest

from hdl import limits
from hdl.frame import FIELDS, FRAME_BYTES
from host import pages


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_is_what_its_table_gives(name: str) -> None:
    assert (pages.DOCS / name).read_text(encoding="utf-8") == pages.PAGES[name](), "make docs"


def test_check_fails_where_a_page_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    assert pages.main(["--check"]) == pages.STALE
    assert list(tmp_path.iterdir()) == []
    assert pages.main([]) == 0
    assert pages.main(["--check"]) == 0
    (tmp_path / "frame.md").write_text("# Something else")
    assert pages.main(["--check"]) == pages.STALE


def test_every_limit_says_why_it_is_there() -> None:
    described = [name for name, _ in pages.documented_constants(Path(str(limits.__file__)).read_text())]
    assert described == [name for name in vars(limits) if name.isupper()]


@pytest.mark.parametrize("view", ["order", "market data"])
def test_the_byte_map_names_every_field_of_a_view_once(view: str) -> None:
    fields = [field for field in FIELDS if field.view in ("both", view)]
    drawn = pages.byte_map(fields, 0, FRAME_BYTES).split()
    assert [word for word in drawn if word.isidentifier() and word != "text"] == [field.name for field in fields]


def test_the_byte_map_is_as_wide_everywhere() -> None:
    fields = [field for field in FIELDS if field.view != "market data"]
    lines = pages.byte_map(fields, 0, FRAME_BYTES).splitlines()[2:-1]
    assert {len(line) for line in lines} == {5 + pages.CELL * pages.ROW_BYTES + 1}
