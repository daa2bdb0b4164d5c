"""docs/gateway.md lists the checks as the code makes them."""

import re
from pathlib import Path

from host.gateway import Verdict

PAGE = Path(__file__).resolve().parents[3] / "docs" / "gateway.md"


def test_the_page_lists_every_check_in_order() -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert listed == [verdict.name for verdict in Verdict if verdict >= Verdict.MALFORMED]
