"""The configuration of `tickgate serve`: a TOML file. ``KEYS`` is its only definition; docs/serve.md is made from it."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hdl.limits import FLOWS
from host.gateway.batch_ring import SLOT_FRAMES, SLOTS
from host.gateway.limits import Limits, load_limits
from host.gateway.risk import ACCOUNTS, POSITIONS
from host.gateway.session_ring import SESSION_SLOTS
from host.journal.file import SEGMENT_BYTES
from host.journal.follower import SNAPSHOT_SEGMENTS

NODE_MODULES = ("nodes", *(f"nodes-{number}" for number in range(2, 9)))
"""The modules that nodes may be shared out to; ``[nodes] modules`` says how many there are."""

MODULES = ("card", "risk", "journal", *NODE_MODULES, "sessions", "snapshots")
"""What a gateway may consist of, in the order in which orders meet them."""


class ConfigError(ValueError):
    """A configuration that cannot be used; one line with the file, the key and the reason."""


class Key(NamedTuple):
    """A key of the file. ``kind`` is the type that TOML gives; a default of None: it must be there, or may be left out."""

    table: str
    name: str
    kind: type
    default: Any
    meaning: str
    least: int | None = None
    most: int | None = None
    needed: bool = False


# fmt: off
KEYS = (
    Key("gateway", "card", str, "soft:", "where frames come from: a card's URL as of `tickgate replay`, `load:` (orders that are made up), or `ring:FILE`, a ring that another process fills"),
    Key("gateway", "limits", str, None, "the limits file (docs/gateway.md)", needed=True),
    Key("gateway", "journal", str, None, "the journal's directory; it is made if it is not there", needed=True),
    Key("gateway", "run", str, "/dev/shm/tickgate", "the directory of the rings; a gateway that is started again goes on with those that it finds"),
    Key("gateway", "schema", str, None, "the SBE schema of the UDP flows"),
    Key("gateway", "profile", str, None, "how its messages become frames (docs/profiles.md)"),
    Key("traffic", "captures", list, [], "what a card is fed with; not for `load:` and `ring:`"),
    Key("traffic", "orders_per_s", int, 100_000, "the rate of `load:`; 0: as fast as the gateway takes them", 0),
    Key("traffic", "orders", int, 0, "how many orders `load:` sends; 0: without end", 0),
    Key("traffic", "lap_orders", int, 20_000, "how many orders `load:` makes up before it repeats them under new identifiers", 100, 1_000_000),
    Key("processes", "groups", list, [["snapshots"]], "modules by process: `[[\"risk\"], [\"journal\", \"nodes\"]]` is three processes, for what is not named shares one; by default the gateway is one process, and what follows it another"),
    Key("processes", "pin", dict, {}, "the processor of a module: `{ risk = 1 }`"),
    Key("wait", "spin_us", int, 20, "how long a module that has nothing to do polls before it sleeps; there must be a processor for each that polls long. 0: it sleeps between any two looks, and much comes at once", 0, 1_000_000),
    Key("wait", "sleep_us", int, 50, "how long it sleeps then; 0: it goes on polling", 0, 1_000_000),
    Key("rings", "frame_slots", int, 1 << 16, "slots of the card's ring, a power of two; not for `ring:`", 2),
    Key("rings", "payload_bytes", int, 1 << 24, "bytes of its raw messages, a power of two; not for `ring:`", 1 << 15, 1 << 32),
    Key("rings", "batch_slots", int, SLOTS, "batches between risk and the slowest module of nodes, a power of two", 2, 1024),
    Key("rings", "batch_frames", int, SLOT_FRAMES, "most orders of a batch", 1, 1 << 16),
    Key("rings", "gather_us", int, 0, "how long orders are gathered for a batch that is not full: fewer and larger ones cost less an order, and each waits so long. 0: a batch goes once the journal has nothing else to do", 0, 1_000_000),
    Key("rings", "session_slots", int, SESSION_SLOTS, "reports that may wait for a session, a power of two", 2, 1 << 24),
    Key("rings", "huge_pages", bool, False, "ask for huge pages for all rings"),
    Key("sessions", "count", bool, True, "read all reports and count them, where no sessions do"),
    Key("sessions", "patience_ms", int, 200, "how long nodes wait for a session that does not read before they send it no more", 0, 60_000),
    Key("journal", "segment_bytes", int, SEGMENT_BYTES, "size of new segments, a multiple of 4096", 1 << 20, 1 << 32),
    Key("journal", "snapshot_segments", int, SNAPSHOT_SEGMENTS, "segments between two snapshots: what lies behind the last one is replayed at a start", 1),
    Key("journal", "retain_bytes", int, 0, "budget of the directory: older segments, behind a snapshot, are deleted; 0: none is", 0),
    Key("risk", "accounts", int, ACCOUNTS, "room for accounts", 1, 1 << 24),
    Key("risk", "positions", int, POSITIONS, "room for instruments of accounts that have been traded", 1, 1 << 28),
    Key("risk", "client_order_ids", int, 1 << 20, "room for client order ids; 32 to 64 bytes each", 1, 1 << 32),
    Key("nodes", "open_orders", int, 1 << 17, "room for open orders of each node", 1, 1 << 30),
    Key("nodes", "modules", int, 1, "modules that share the nodes: `nodes`, `nodes-2` and so on, which may be processes of their own", 1, len(NODE_MODULES)),
    Key("health", "moves_per_s", int, 1000, "most instruments a second that move to other nodes when weights change; 0: books stay where they are, and only new instruments go by the weights", 0, 1_000_000),
    Key("health", "dead_ms", int, 2000, "a module of nodes without a sign of life for so long is dead: its nodes have no weight until it is back", 500, 3_600_000),
    Key("health", "half_life_ms", int, 500, "a measurement counts half after so long", 1, 3_600_000),
    Key("health", "tolerance_percent", int, 150, "up to so much of the median's latency or queue, nodes are equal", 100, 100_000),
    Key("health", "latency_grain_us", int, 20_000, "latencies from durable to reported below this are equal", 1, 1 << 32),
    Key("health", "queue_grain", int, SLOT_FRAMES, "durable orders that wait for a node, of mean weight, below this are equal", 1, 1 << 32),
    Key("health", "error_cost", int, 8, "so many times the part of failed batches is taken from a node's weight; a killed process has failed one", 0, 1 << 16),
    Key("health", "floor_percent", int, 12, "least weight, of the configured one", 1, 100),
    Key("health", "ceiling_percent", int, 150, "largest weight, of the configured one", 100, 200),
    Key("health", "step_percent", int, 25, "by how much of the configured one a weight changes in a second at most", 1, 1000),
    Key("health", "threshold_percent", int, 20, "by how much a weight must be too high to begin to fall; to rise, twice that", 0, 99),
    Key("health", "dwell_ms", int, 1000, "between two changes of a node's weight", 1, 3_600_000),
)
# fmt: on

TABLES = tuple(dict.fromkeys(key.table for key in KEYS))
KIND_TEXT = {str: "text", int: "integer", bool: "true or false", list: "array", dict: "table"}


@dataclass(frozen=True)
class Config:
    """What a file says, every key with its value; ``groups`` are the modules of each process."""

    path: Path
    values: Mapping[tuple[str, str], Any]
    limits: Limits
    groups: tuple[tuple[str, ...], ...]

    def __getitem__(self, key: str) -> Any:
        """The value of ``table.name``."""
        table, _, name = key.partition(".")
        return self.values[table, name]

    @property
    def run(self) -> Path:
        """The directory of the rings."""
        return Path(self["gateway.run"])

    @property
    def journal(self) -> Path:
        """The journal's directory."""
        return Path(self["gateway.journal"])

    @property
    def node_modules(self) -> Mapping[str, tuple[int, ...]]:
        """The modules of nodes that there are, and the nodes of each. The first has cursor 1 of the batch ring, and so on."""
        modules = NODE_MODULES[: self["nodes.modules"]]
        return {module: tuple(sorted(self.limits.nodes))[index :: len(modules)] for index, module in enumerate(modules)}

    def pin(self, module: str) -> int | None:
        """The processor of a module."""
        pinned = self["processes.pin"].get(module)
        return None if pinned is None else int(pinned)


def load_config(path: Path) -> Config:
    """Read a configuration and the limits that it names. Paths in it count from its own folder.

    Raises ConfigError, LimitsError, or OSError where a file is missing.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    try:
        values = _values(content)
        for name in ("limits", "journal", "run", "schema"):
            if values["gateway", name] is not None:
                values["gateway", name] = str(path.parent / values["gateway", name])
        values["traffic", "captures"] = [str(path.parent / each) for each in values["traffic", "captures"]]
        _check(values)
        groups = _groups(values["processes", "groups"], values["nodes", "modules"])
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    absent = {"card"} if values["gateway", "card"].startswith("ring:") else set()
    absent |= set() if values["sessions", "count"] else {"sessions"}
    groups = tuple(kept for group in groups if (kept := tuple(each for each in group if each not in absent)))
    limits = load_limits(Path(values["gateway", "limits"]))
    if values["nodes", "modules"] > len(limits.nodes):
        raise ConfigError(
            f"{path}: [nodes] modules is {values['nodes', 'modules']}; there are {len(limits.nodes)} nodes"
        )
    return Config(path, values, limits, groups)


def _values(content: dict[str, Any]) -> dict[tuple[str, str], Any]:
    if unknown := sorted(set(content) - set(TABLES)):
        raise ValueError(f"unknown table '{unknown[0]}' (there are {', '.join(TABLES)})")
    values: dict[tuple[str, str], Any] = {}
    for table in TABLES:
        rows = {key.name: key for key in KEYS if key.table == table}
        given = content.get(table, {})
        if not isinstance(given, dict):
            raise ValueError(f"'{table}' must be a table: [{table}]")
        if unknown := sorted(set(given) - set(rows)):
            raise ValueError(f"[{table}]: unknown key '{unknown[0]}' (there are {', '.join(rows)})")
        for name, key in rows.items():
            values[table, name] = _value(key, given)
    return values


def _value(key: Key, given: dict[str, Any]) -> Any:
    where = f"[{key.table}] {key.name}"
    if key.name not in given:
        if key.needed:
            raise ValueError(f"{where} is missing: {key.meaning}")
        return key.default
    value: Any = given[key.name]
    fits = isinstance(value, key.kind) and not (key.kind is int and isinstance(value, bool))
    if not fits:
        raise ValueError(f"{where} must be {KIND_TEXT[key.kind]}")
    if (key.least is not None and value < key.least) or (key.most is not None and value > key.most):
        bounds = f"from {key.least} to {key.most}" if key.most is not None else f"{key.least} or more"
        raise ValueError(f"{where} is {value}; it must be {bounds}")
    return value


def _check(values: Mapping[tuple[str, str], Any]) -> None:
    for name in ("frame_slots", "payload_bytes", "batch_slots", "session_slots"):
        if (value := values["rings", name]) & (value - 1):
            raise ValueError(f"[rings] {name} is {value}; it must be a power of two")
    if values["journal", "segment_bytes"] % 4096:
        raise ValueError(
            f"[journal] segment_bytes is {values['journal', 'segment_bytes']}; it must be a multiple of 4096"
        )
    card, captures = values["gateway", "card"], values["traffic", "captures"]
    if not all(isinstance(each, str) for each in captures):
        raise ValueError("[traffic] captures must be an array of files")
    if card.startswith(("load:", "ring:")):
        if captures:
            raise ValueError(f"[traffic] captures: {card} is fed by nobody")
    elif not captures:
        raise ValueError(f"[traffic] captures is missing: {card} wants to be fed")
    processors = os.cpu_count() or 1
    for module, processor in values["processes", "pin"].items():
        if module not in MODULES:
            raise ValueError(f"[processes] pin: there is no module '{module}' (there are {', '.join(MODULES)})")
        if not isinstance(processor, int) or not 0 <= processor < processors:
            raise ValueError(
                f"[processes] pin: {module} = {processor}; this machine has processors 0 to {processors - 1}"
            )


def _groups(named: list[Any], node_modules: int) -> tuple[tuple[str, ...], ...]:
    groups: list[tuple[str, ...]] = []
    for each in named:
        if not isinstance(each, list) or not each:
            raise ValueError("[processes] groups must be an array of arrays of modules")
        groups.append(tuple(each))
    seen = [module for group in groups for module in group]
    there = [module for module in MODULES if module not in NODE_MODULES[node_modules:]]
    for module in seen:
        if module not in there:
            raise ValueError(f"[processes] groups: there is no module '{module}' (there are {', '.join(there)})")
        if seen.count(module) > 1:
            raise ValueError(f"[processes] groups: '{module}' is named twice")
    rest = tuple(module for module in there if module not in seen)
    return tuple(groups + ([rest] if rest else []))


SESSIONS = FLOWS
"""Rings of a module of nodes: one for each flow of the card."""
