"""What modules are made of, before they serve."""

import tempfile
from pathlib import Path

import numpy as np

from host.journal.scan import Position
from host.journal.snapshots import write_snapshot
from host.ring.mapping import SHARED_MEMORY
from host.serve.config import load_config
from host.serve.modules import make_id_table, make_risk
from tests.host.serve.test_config import GATEWAY, write


def test_risk_has_room_where_the_only_snapshot_lies_ahead_of_what_it_is_brought_to(tmp_path: Path) -> None:
    # The follower may have written it while the process that says how far the journal is durable was killed.
    config = load_config(write(tmp_path, GATEWAY))
    config.journal.mkdir()
    write_snapshot(config.journal, Position(segment=2, batch=5, sequence=9), {"x": np.zeros(1)})
    rooms = [int(make_risk(config, before=before).state.tables["account_room"][0]) for before in (4, 5, None)]
    assert rooms == [config["risk.accounts"], 1, 1]


def test_the_table_of_client_order_ids_stays_in_shared_memory(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as shared:
        gateway = GATEWAY.replace("[gateway]\n", f'[gateway]\nrun = "{shared}"\n', 1)
        config = load_config(write(tmp_path, gateway + "[risk]\nclient_order_ids = 1000\n"))
        table = make_id_table(config)
        assert table is not None
        risk = make_risk(config, id_table=table)
        risk.remember_client_order_ids(np.ones((1, 2), np.uint64))
        assert table.any()
        (path,) = Path(shared).iterdir()
        assert path.stat().st_size == table.nbytes == 16 * 2048
        same = path.stat().st_ino
        # A process that died has left what it remembered: the next one begins with nothing, in the same memory.
        again = make_id_table(config)
        assert again is not None
        assert not again.any()
        assert path.stat().st_ino == same
        larger = load_config(write(tmp_path, gateway + "[risk]\nclient_order_ids = 5000\n"))
        assert (make_id_table(larger) == 0).all()
        assert path.stat().st_size == 16 * 16384


def test_there_is_no_table_where_the_system_would_write_it_to_a_disk(tmp_path: Path) -> None:
    run = tmp_path / "run"
    gateway = GATEWAY.replace("[gateway]\n", f'[gateway]\nrun = "{run}"\n', 1)
    config = load_config(write(tmp_path, gateway))
    run.mkdir()
    assert make_id_table(config) is None
    assert not list(run.iterdir())
