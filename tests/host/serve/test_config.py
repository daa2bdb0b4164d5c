"""A configuration is read whole or refused with one line."""

from pathlib import Path

import pytest

from host.demo import DEMO_LIMITS
from host.gateway.limits import dump_limits
from host.serve.config import KEYS, ConfigError, load_config

GATEWAY = '[gateway]\ncard = "load:"\nlimits = "limits.toml"\njournal = "journal"\n'


def write(directory: Path, text: str) -> Path:
    (directory / "limits.toml").write_text(dump_limits(DEMO_LIMITS))
    (directory / "serve.toml").write_text(text)
    return directory / "serve.toml"


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GATEWAY))
    assert config.journal == tmp_path / "journal"
    assert config.groups == (("snapshots",), ("card", "risk", "journal", "nodes", "sessions"))
    for key in KEYS:
        if (key.table, key.name) not in {("gateway", "card"), ("gateway", "limits"), ("gateway", "journal")}:
            assert config[f"{key.table}.{key.name}"] == key.default
    assert config.limits == DEMO_LIMITS


def test_modules_are_put_into_processes(tmp_path: Path) -> None:
    groups = '[processes]\ngroups = [["risk"], ["nodes", "journal"]]\npin = { risk = 0 }\n'
    config = load_config(write(tmp_path, GATEWAY + groups))
    assert config.groups == (("risk",), ("nodes", "journal"), ("card", "sessions", "snapshots"))
    assert (config.pin("risk"), config.pin("nodes")) == (0, None)
    config = load_config(write(tmp_path, GATEWAY.replace("load:", "ring:/dev/shm/x") + "[sessions]\ncount = false\n"))
    assert config.groups == (("snapshots",), ("risk", "journal", "nodes"))


def test_nodes_are_shared_out_to_modules(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GATEWAY + '[nodes]\nmodules = 2\n[processes]\ngroups = [["nodes-2"]]\n'))
    assert config.node_modules == {"nodes": (0, 2), "nodes-2": (1,)}
    assert config.groups == (("nodes-2",), ("card", "risk", "journal", "nodes", "sessions", "snapshots"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[gateway", "not a TOML file"),
        ("[gateway]\n", r"\[gateway\] limits is missing: the limits file"),
        (GATEWAY + "[speed]\n", "unknown table 'speed'"),
        (GATEWAY + "speed = 1\n", r"\[gateway\]: unknown key 'speed' \(there are card"),
        ("gateway = 1\n", "'gateway' must be a table"),
        (GATEWAY + '[wait]\nspin_us = "long"\n', r"\[wait\] spin_us must be integer"),
        (GATEWAY + "[wait]\nspin_us = true\n", r"\[wait\] spin_us must be integer"),
        (GATEWAY + "[wait]\nspin_us = -1\n", "spin_us is -1; it must be from 0 to 1000000"),
        (GATEWAY + "[journal]\nsegment_bytes = 1048577\n", "segment_bytes is 1048577; it must be a multiple of 4096"),
        (GATEWAY + "[rings]\nframe_slots = 1000\n", "frame_slots is 1000; it must be a power of two"),
        (GATEWAY + '[processes]\ngroups = [["riks"]]\n', "there is no module 'riks'"),
        (GATEWAY + '[processes]\ngroups = [["risk"], ["risk"]]\n', "'risk' is named twice"),
        (GATEWAY + '[processes]\ngroups = [["nodes-2"]]\n', "there is no module 'nodes-2'"),
        (GATEWAY + "[nodes]\nmodules = 4\n", r"\[nodes\] modules is 4; there are 3 nodes"),
        (GATEWAY + '[processes]\ngroups = ["risk"]\n', "array of arrays"),
        (GATEWAY + "[processes]\npin = { risk = 9999 }\n", "risk = 9999; this machine has processors 0 to"),
        (GATEWAY + "[processes]\npin = { riks = 0 }\n", "there is no module 'riks'"),
        (GATEWAY + '[traffic]\ncaptures = ["x.pcap"]\n', "load: is fed by nobody"),
        (GATEWAY.replace("load:", "soft:"), "soft: wants to be fed"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        load_config(write(tmp_path, text))
    assert str(error.value).startswith(f"{tmp_path / 'serve.toml'}: ")


def test_limits_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, GATEWAY)
    (tmp_path / "limits.toml").unlink()
    with pytest.raises(FileNotFoundError, match=r"limits\.toml"):
        load_config(path)
