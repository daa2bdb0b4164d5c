"""What modules are made of, before they serve."""

from pathlib import Path

import numpy as np

from host.journal.scan import Position
from host.journal.snapshots import write_snapshot
from host.serve.config import load_config
from host.serve.modules import make_risk
from tests.host.serve.test_config import GATEWAY, write


def test_risk_has_room_where_the_only_snapshot_lies_ahead_of_what_it_is_brought_to(tmp_path: Path) -> None:
    # The follower may have written it while the process that says how far the journal is durable was killed.
    config = load_config(write(tmp_path, GATEWAY))
    config.journal.mkdir()
    write_snapshot(config.journal, Position(segment=2, batch=5, sequence=9), {"x": np.zeros(1)})
    rooms = [int(make_risk(config, before=before).state.tables["account_room"][0]) for before in (4, 5, None)]
    assert rooms == [config["risk.accounts"], 1, 1]
