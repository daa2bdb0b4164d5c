"""The notebook of docs/ runs as it is, on made-up data and on a real capture, and draws its pictures."""

import base64
import os
from pathlib import Path

import nbclient
import nbformat
import pytest

from hdl.sources import ROOT

NOTEBOOK = ROOT / "docs/replay.ipynb"
DATA = ROOT.parent / "shared/data"
CME = DATA / "cme_mdp3/Cme.Mdp3.Sbe.v6.1.pcap"
CME_SCHEMA = DATA / "schemas/omi/Cme.Futures.Mdp3.Sbe.v1.6.xml"

PICTURES = 3
MOST_BYTES = 200_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "capture", [None, pytest.param(CME, marks=pytest.mark.skipif(not CME.exists(), reason=f"there is no {CME}"))]
)
def test_the_notebook_draws_its_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capture: Path | None) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name, value in (("TICKGATE_CAPTURE", capture), ("TICKGATE_SCHEMA", CME_SCHEMA if capture else None)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(value))
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == PICTURES
    for number, picture in enumerate(pictures):
        content = base64.b64decode(picture)
        assert 10_000 < len(content) < MOST_BYTES
        # To look at them.
        if folder := os.environ.get("TICKGATE_PICTURES"):
            (Path(folder) / f"{number}.png").write_bytes(content)
    said = "".join(output.get("text", "") for output in outputs)
    assert "packets that both feeds brought" in said
    if capture is not None:
        assert "5,000 numbers passed on, 0 missing" in said


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
