"""What modules are made of, before they serve."""

import tempfile
from pathlib import Path

import numpy as np

from host.gateway.batch_ring import BatchRing
from host.gateway.id_table import IdTable
from host.journal.scan import Position
from host.journal.snapshots import write_snapshot
from host.ring.mapping import SHARED_MEMORY
from host.serve.config import load_config
from host.serve.modules import IDS, make_risk, open_ids
from tests.host.serve.test_config import GATEWAY, write


def test_risk_has_room_where_the_only_snapshot_lies_ahead_of_what_it_is_brought_to(tmp_path: Path) -> None:
    # The follower may have written it while the process that says how far the journal is durable was killed.
    config = load_config(write(tmp_path, GATEWAY))
    config.journal.mkdir()
    write_snapshot(config.journal, Position(segment=2, batch=5, sequence=9), {"x": np.zeros(1)})
    rooms = [
        int(make_risk(config, IdTable(1), before=before).state.tables["account_room"][0]) for before in (4, 5, None)
    ]
    assert rooms == [config["risk.accounts"], 1, 1]


def test_the_table_of_client_order_ids_stays_in_shared_memory(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as shared:
        gateway = GATEWAY.replace("[gateway]\n", f'[gateway]\nrun = "{shared}"\n', 1)
        config = load_config(write(tmp_path, gateway + "[risk]\nclient_order_ids = 1000\n"))
        path = Path(shared) / IDS
        with BatchRing.create(tmp_path / "batches", base=0) as batches:
            ids, kept = open_ids(config, batches)
            assert not kept
            risk = make_risk(config, ids)
            risk.remember_client_order_ids(np.ones((1, 2), np.uint64))
            same = path.stat().st_ino
            # A process that died before it served has left a part of them: the next one begins with none, in the same memory.
            again, kept = open_ids(config, batches)
            assert not kept
            assert not again.rows.any()
            assert path.stat().st_ino == same
            risk = make_risk(config, again)
            risk.remember_client_order_ids(np.ones((1, 2), np.uint64))
            risk.vouch_for_ids(batches.identity)
            # One that served has left all of them.
            again, kept = open_ids(config, batches)
            assert kept
            assert again.count == 1
            larger = load_config(write(tmp_path, gateway + "[risk]\nclient_order_ids = 5000\n"))
            again, kept = open_ids(larger, batches)
            assert not kept
            assert not again.rows.any()
            assert again.rows.shape == (16384, 2)
            assert path.stat().st_ino != same


def test_there_is_no_table_where_the_system_would_write_it_to_a_disk(tmp_path: Path) -> None:
    run = tmp_path / "run"
    gateway = GATEWAY.replace("[gateway]\n", f'[gateway]\nrun = "{run}"\n', 1)
    config = load_config(write(tmp_path, gateway))
    run.mkdir()
    with BatchRing.create(None, base=0) as batches:
        ids, kept = open_ids(config, batches)
    assert not kept
    assert ids.room == config["risk.client_order_ids"]
    assert not list(run.iterdir())
