"""Pre-trade risk: what may be ordered, and what has been. See docs/gateway.md for the checks and their order."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hdl.frame import FRAME_DTYPE
from host.cluster.node import NO_NODE
from host.cluster.order_index import NONE
from host.gateway.book_tops import take_tops
from host.gateway.exposure import settle_reports
from host.gateway.id_table import IdTable, enter_ids, take_ids
from host.gateway.notional import NOTIONAL_LIMIT
from host.gateway.reject import Reject, reject_of
from host.gateway.risk_control import (
    apply_terms,
    is_killed,
    mark_kill,
    named_account,
    parse_control,
)
from host.gateway.risk_pass import risk_pass
from host.gateway.risk_restore import restore_orders
from host.gateway.risk_state import (
    ACCOUNT_DTYPE,
    AHEAD_DTYPE,
    COUNTER_DTYPE,
    DROP_ON_DISCONNECT,
    INSTRUMENT_DTYPE,
    LOOKAHEAD,
    ORDER_DTYPE,
    POSITION_DTYPE,
    SESSION_DTYPE,
    SLOT_DTYPE,
    TABLE_DTYPE,
    TERMS_DTYPE,
    RiskState,
    table_size,
)
from host.gateway.router import Router
from host.gateway.terms import DEFAULT_ACCOUNT, SESSION_LIMIT, Account, Instrument, Position, Session, Terms
from host.gateway.verdict import VERDICT_TEXT, Verdict, verdict_text
from host.journal.batch import DECISION_DTYPE, NOTE_DTYPE, Batch
from host.journal.id_log import flows_of
from host.memory import read_only, touched

if TYPE_CHECKING:
    from host.market_data import Books

__all__ = [
    "DEFAULT_ACCOUNT",
    "NOTIONAL_LIMIT",
    "VERDICT_TEXT",
    "Account",
    "Instrument",
    "Position",
    "Reject",
    "Risk",
    "Session",
    "Terms",
    "Verdict",
    "verdict_text",
]

CLIENT_ORDER_IDS = 1 << 20
"""Client order ids remembered by default: 32 MiB."""

ACCOUNTS = 4096
"""Accounts, named ones included, by default."""

POSITIONS = 1 << 16
"""Instruments of accounts that have been traded, by default: 8 MiB."""

ORDERS = 1 << 18
"""Open orders by default: 18 MiB."""


class Risk:
    """The checks with their state, in flat arrays that the compiled pass works on.

    Parameters: ``instruments``, ``accounts``, ``sessions`` and ``positions`` that have limits of their own;
    ``default_account``, whose limits every other account has; ``client_order_ids``, room for identifiers that are
    remembered to find duplicates, or ``ids``, an empty table for them; ``account_room``, ``position_room``, ``order_room``, most accounts, instruments of accounts, and open orders. What has no room is rejected with its own verdict. No order passes before :meth:`route`.

    Limits, kills and new days change by :meth:`apply_control` between two slices. Whatever verdicts depend on but what the
    market says (reference prices and books) is a function of the accepted orders, the reports and the control records,
    so that a replayed journal gives the same :meth:`state_hash`.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument] = (),
        accounts: Iterable[Account] = (),
        *,
        sessions: Iterable[Session] = (),
        positions: Iterable[Position] = (),
        default_account: Account = DEFAULT_ACCOUNT,
        client_order_ids: int = CLIENT_ORDER_IDS,
        ids: IdTable | None = None,
        account_room: int = ACCOUNTS,
        position_room: int = POSITIONS,
        order_room: int = ORDERS,
    ) -> None:
        self.ids = IdTable(client_order_ids) if ids is None else ids
        self.terms = Terms()
        self._router: Router | None = None
        self.weights_record: Mapping[str, Any] | None = None
        self._books_known = 0
        self.state = RiskState(
            instruments=np.zeros(0, INSTRUMENT_DTYPE),
            terms=np.zeros(0, TERMS_DTYPE),
            symbols=np.zeros(2, SLOT_DTYPE),
            securities=np.zeros(2, SLOT_DTYPE),
            accounts=touched(table_size(account_room), ACCOUNT_DTYPE),
            default_account=np.zeros(1, ACCOUNT_DTYPE),
            sessions=touched(SESSION_LIMIT + 2, SESSION_DTYPE),
            positions=touched(table_size(position_room), POSITION_DTYPE),
            client_order_ids=self.ids.rows,
            id_words=self.ids.words,
            id_notes=self.ids.notes,
            orders=touched(order_room, ORDER_DTYPE),
            order_index=np.full(table_size(order_room), NONE, np.int32),
            tables=np.zeros(1, TABLE_DTYPE),
            counters=np.zeros(1, COUNTER_DTYPE),
            notes=np.zeros(1, NOTE_DTYPE),
            ahead=np.zeros(LOOKAHEAD, AHEAD_DTYPE),
        )
        self._decision = np.zeros(1, DECISION_DTYPE)
        self.state.orders["next"] = np.arange(1, order_room + 1)
        self.state.orders["next"][-1] = NONE
        tables = self.state.tables[0]
        tables["client_order_id_room"], tables["account_room"] = self.ids.room, account_room
        tables["position_room"] = position_room
        self._limit(Terms(tuple(instruments), tuple(accounts), tuple(sessions), tuple(positions), default_account))

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """What may be ordered now."""
        return self.terms.instruments

    def route(self, router: Router) -> None:
        """Gives every instrument its node; the table equals ``router.node`` of each instrument's code."""
        self._router = router
        nodes = np.zeros(len(self.state.instruments), np.uint8)
        router.assign(np.ascontiguousarray(self.state.instruments["code"]), nodes)
        self.state.instruments["node"] = nodes

    def weigh(self, record: Mapping[str, Any]) -> None:
        """Has instruments that come new placed by the weights of a "weights" record, which is kept as ``weights_record``. Those that
        have a node keep it until a "move" record says otherwise: their books are there."""
        self.weights_record = record
        if self._router is not None:
            self._router.update({int(node): weight for node, weight in record["weights"].items()})
            self._place()

    @property
    def router(self) -> Router | None:
        """What instruments are placed by, with the weights of the last "weights" record."""
        return self._router

    def decide(self, frames: np.ndarray, payload: np.ndarray, decisions: np.ndarray) -> None:
        """Checks and routes a slice of the ring in one pass that allocates nothing.

        ``frames`` has FRAME_DTYPE, ``payload`` is the payload ring (uint8). Writes a decision for each frame to
        ``decisions`` (DECISION_DTYPE, at least as long): the :class:`Verdict`, the node (NO_NODE unless accepted), and
        what the node and a replay need to know.
        """
        if frames.dtype != FRAME_DTYPE:
            raise TypeError(f"frames have dtype {frames.dtype}, not FRAME_DTYPE")
        if decisions.dtype != DECISION_DTYPE or len(decisions) < len(frames):
            raise ValueError(f"{len(frames)} frames do not fit {len(decisions)} decisions of {decisions.dtype}")
        self.reserve(len(frames))
        risk_pass(read_only(frames, FRAME_DTYPE), 0, read_only(payload, np.uint8), self.state, decisions)

    def reserve(self, frames: int) -> None:
        """Room to say why, for slices of so many frames."""
        if len(self.state.notes) <= frames:
            self.state = self.state._replace(notes=np.zeros(2 * frames + 1, NOTE_DTYPE))

    @property
    def notes(self) -> np.ndarray:
        """The notes on the decisions about the last slice (NOTE_DTYPE): a view that holds until the next one."""
        return self.state.notes[: int(self.state.tables["notes"][0])]

    @property
    def rejects(self) -> np.ndarray:
        """The refused orders of the last slice (NOTE_DTYPE)."""
        notes = self.notes
        return notes[notes["verdict"] != Verdict.ACCEPTED]

    def explain(self, index: int) -> Reject:
        """Why frame ``index`` of the last slice was refused. Raises KeyError for one that was not."""
        rejects = self.rejects
        place = int(np.searchsorted(rejects["index"], index))
        if place == len(rejects) or rejects["index"][place] != index:
            raise KeyError(f"frame {index} of the last slice was not refused")
        return reject_of(rejects[place])

    def settle(self, reports: np.ndarray) -> None:
        """Takes the nodes' reports (REPORT_DTYPE) of orders that were decided or restored: fills move positions, and what
        is not open any more frees what it held. Reports of one instrument come in their order. They may stand in wider
        records: they are not copied."""
        read = reports.view()
        read.flags.writeable = False
        settle_reports(read, self.state)

    def restore(self, batch: Batch) -> None:
        """Books a journaled batch again, as after a restart; the nodes' reports of it are to be settled before the next one.

        Raises ValueError when there is no room for an order, or no instrument.
        """
        if (control := getattr(batch, "control", None)) is not None:
            self.apply_control(control)
            return
        self.ids.disown()
        lost = restore_orders(
            read_only(batch.frames, FRAME_DTYPE),
            read_only(batch.decisions, DECISION_DTYPE),
            read_only(batch.payload, np.uint8),
            self.state,
            self._decision,
        )
        if lost:
            raise ValueError(
                f"no room for {lost} of the journal's orders, or no such instrument: give risk the limits and the room "
                "with which they were accepted"
            )

    def follow(self, books: "Books") -> None:
        """Moves the fat-finger bounds to the best prices of ``books`` as they are now. A side that has no best price, or
        a book that is not to be trusted, bounds nothing."""
        self.find_books(books)
        take_tops(self.state, books.state)

    def find_books(self, books: "Books") -> int:
        """Finds the books of the instruments that are checked against theirs; returns how many instruments the books have."""
        count = int(books.state.cursor[0]["instruments"])
        if count != self._books_known:
            self._books_known = count
            numbers = {int(code): number for number, code in enumerate(books.state.instruments["instrument"][:count])}
            for instrument in self.terms.instruments:
                if instrument.fat_finger_ppm and instrument.security_id in numbers:
                    self.state.terms["book"][self._row(instrument.symbol)] = numbers[instrument.security_id]
        return count

    def apply_control(self, record: Mapping) -> None:
        """Does what a control record of the journal says; records that are for others are passed over.

        See docs/gateway.md for the types. Raises ValueError, with one line, for a record that says nothing that can be done.
        """
        kind = record.get("type")
        if kind == "limits":
            self._limit(self.terms.changed(record))
        elif kind in ("kill", "release"):
            scope, name = parse_control(record)
            mark_kill(self.state, self.terms, scope, name, kill=kind == "kill")
        elif kind == "new_day":
            self._new_day(None)
        elif kind == "session_day":
            self._new_day(int(record["flow"]))

    def limits_record(self, terms: Terms) -> dict[str, object] | None:
        """The control record that puts ``terms`` in place of the present limits; None when nothing changes."""
        return terms.record(self.terms)

    def kill_record(self, scope: str, name: str | int | None = None, *, cancel: bool = False) -> dict[str, object]:
        """The control record that stops new orders and replaces; cancels pass. ``cancel``: nodes end the open ones, too.

        ``scope`` is "all", "instrument" (``name``: symbol), "account" (its name) or "session" (its number). Raises
        ValueError for what is not there.
        """
        return self._control("kill", scope, name) | ({"cancel": True} if cancel else {})

    def release_record(self, scope: str, name: str | int | None = None) -> dict[str, object]:
        """The control record that undoes :meth:`kill_record` of the same scope and name."""
        return self._control("release", scope, name)

    def new_day_record(self, session: int | None = None) -> dict[str, object]:
        """The control record of a new day: client order ids and the day's notionals are forgotten, and nodes end Day orders;
        of a session's own new day: its ids are forgotten, and nothing else."""
        return {"type": "new_day"} if session is None else {"type": "session_day", "flow": session}

    def disconnect_record(self, session: int) -> dict[str, object] | None:
        """The control record with which nodes cancel a session's open orders; None where the session keeps them."""
        if not self.state.sessions["checks"][session] & DROP_ON_DISCONNECT:
            return None
        return {"type": "disconnect", "flow": session}

    def killed(self, scope: str, name: str | int | None = None) -> bool:
        """Whether a kill of this scope and name holds."""
        return is_killed(self.state, self.terms, scope, name)

    def notional_used(self, account: str) -> int:
        """What a named account has used of the day's notional, 1e-17."""
        return self._pair(account, "used")

    def gross_exposure(self, account: str) -> int:
        """What a named account may come to hold in all instruments, 1e-17."""
        return self._pair(account, "gross")

    def position(self, account: str, symbol: str) -> tuple[int, int, int]:
        """(position, open buys, open sells) of a named account in an instrument, 1e-8."""
        slot, _ = named_account(self.state, account)
        rows = self.state.positions
        row = rows[
            (rows["account"] == self.state.accounts["number"][slot] + 1) & (rows["instrument"] == self._row(symbol))
        ]
        if not len(row) or not self._is_known(slot):
            return 0, 0, 0
        return int(row[0]["position"]), int(row[0]["open_buy"]), int(row[0]["open_sell"])

    def reference_price(self, symbol: str) -> int:
        """The middle of an instrument's collar now, 1e-9."""
        return int(self.state.instruments["reference"][self._row(symbol)])

    @property
    def client_order_ids(self) -> int:
        """How many client order ids are remembered."""
        return int(self.state.tables["client_order_ids"][0])

    def take_client_order_ids(self) -> np.ndarray:
        """All client order ids that are remembered (rows of two uint64), which are forgotten here."""
        ids = np.zeros((self.client_order_ids, 2), np.uint64)
        self.ids.disown()
        take_ids(self.state, ids)
        return ids

    def remember_client_order_ids(self, ids: np.ndarray) -> None:
        """Takes in what :meth:`take_client_order_ids` gave. Raises ValueError where there is no room."""
        self.ids.disown()
        if lost := enter_ids(self.state, read_only(ids, np.uint64)):
            raise ValueError(f"no room for {lost} of the client order ids of the day")

    def vouch_for_ids(self, of: int) -> None:
        """Its table holds the client order ids of all orders in batches of a ring (``of``, its identity), and no other; see :class:`IdTable`."""
        self.ids.vouch(of, self.client_order_ids)

    def take_over(self, ids: IdTable) -> None:
        """Goes on with another table, which holds all that is to be remembered."""
        self.ids = ids
        self.state = self.state._replace(client_order_ids=ids.rows, id_words=ids.words, id_notes=ids.notes)
        self.state.tables["client_order_ids"], self.state.tables["client_order_id_room"] = ids.count, ids.room

    def state_parts(self) -> dict[str, np.ndarray]:
        """What must survive beside the client order ids: the live arrays by name, and the limits as text. No copies."""
        parts = {name: getattr(self.state, name) for name in _PARTS}
        text = json.dumps(self.terms.record(), sort_keys=True, separators=(",", ":")).encode()
        return {**parts, "limits": np.frombuffer(text, np.uint8)}

    def load_parts(self, parts: Mapping[str, np.ndarray]) -> None:
        """Goes on from :meth:`state_parts`, which this writes to from now on. Raises ValueError for what is no such state."""
        for name in _PARTS:
            if name not in parts:
                raise ValueError(f"the state has no part '{name}'")
            if parts[name].dtype != getattr(self.state, name).dtype:
                raise ValueError(f"part '{name}' of the state is of another version: {parts[name].dtype}")
        self.terms = Terms().changed(json.loads(parts["limits"].tobytes()))
        mine = self.state.tables[0]
        self.state = self.state._replace(**{name: parts[name] for name in _PARTS})
        # The ids and their table are this one's.
        for name in ("client_order_ids", "client_order_id_room"):
            self.state.tables[name] = mine[name]
        self.state.terms["book"], self.state.terms["followed"] = NONE, False
        self._books_known = 0
        if self._router is not None:
            self.route(self._router)

    def state_hash(self) -> str:
        """BLAKE2b over everything that later verdicts depend on but the market's prices, whatever row it stands in."""
        state, digest = self.state, hashlib.blake2b(digest_size=16)
        for rows in _canonical(state, self.ids.sorted()):
            digest.update(np.ascontiguousarray(rows).tobytes())
        digest.update(json.dumps(self.terms.record(), sort_keys=True).encode())
        return digest.hexdigest()

    def _limit(self, terms: Terms) -> None:
        self.state = apply_terms(self.state, self.terms, terms)
        self.terms = terms
        self._books_known = 0
        self._place()

    def _place(self) -> None:
        """Gives a node to the instruments that have none."""
        nodes = self.state.instruments["node"]
        if self._router is None or not (missing := np.flatnonzero(nodes == NO_NODE)).size:
            return
        found = np.zeros(len(missing), np.uint8)
        self._router.assign(self.state.instruments["code"][missing], found)
        nodes[missing] = found

    def _new_day(self, session: int | None) -> None:
        if session is None:
            self.ids.clear()
            self.state.tables["client_order_ids"] = 0
            self.state.accounts["used_high"] = self.state.accounts["used_low"] = 0
            return
        ids = self.take_client_order_ids()
        self.remember_client_order_ids(ids[flows_of(ids) != session])

    def _control(self, kind: str, scope: str, name: str | int | None) -> dict[str, object]:
        record: dict[str, object] = {"type": kind, "scope": scope} | ({} if name is None else {"name": name})
        parse_control(record)
        if scope == "instrument":
            self._row(str(name))
        elif scope == "account":
            slot, _ = named_account(self.state, str(name))
            if not self._is_known(slot):
                raise ValueError(
                    f"there is no account '{name}' yet: only one that has ordered or is configured can be stopped"
                )
            record["account"] = int(self.state.accounts["number"][slot]) + 1
        return record

    def _row(self, symbol: str) -> int:
        found = np.flatnonzero(self.state.instruments["code"] == np.uint64(Instrument(symbol, 0, 1).code))
        if not len(found):
            raise ValueError(f"there is no instrument '{symbol}'")
        return int(found[0])

    def _is_known(self, slot: int) -> bool:
        row = self.state.accounts[slot]
        return bool(row["key_low"] or row["key_high"])

    def _pair(self, account: str, name: str) -> int:
        row = self.state.accounts[named_account(self.state, account)[0]]
        return int(row[f"{name}_high"]) << 64 | int(row[f"{name}_low"])


_PARTS = (
    "instruments",
    "terms",
    "symbols",
    "securities",
    "accounts",
    "default_account",
    "sessions",
    "positions",
    "orders",
    "order_index",
    "tables",
)
"""The arrays that a snapshot holds. Not the client order ids, which are most of the state and of which a day forgets none."""


def _canonical(state: RiskState, ids: np.ndarray) -> Iterable[np.ndarray]:
    """The rows of a state in an order that does not depend on where they stand."""
    accounts = state.accounts[(state.accounts["key_low"] != 0) | (state.accounts["key_high"] != 0)]
    yield accounts[np.argsort(accounts["number"])]
    positions = state.positions[state.positions["account"] != 0]
    order = np.lexsort((positions["instrument"], positions["account"]))
    for name in (
        "account",
        "instrument",
        "position",
        "open_buy",
        "open_sell",
        "mark",
        "long_limit",
        "short_limit",
        "checks",
    ):
        yield positions[name][order]
    orders = state.orders[state.orders["state"] != 0]
    order = np.lexsort((orders["key_high"], orders["key_low"]))
    for name in ("key_low", "key_high", "quantity", "held", "flow", "side", "state"):
        yield orders[name][order]
    where = state.positions[orders["position"]]
    yield where["account"][order]
    yield where["instrument"][order]
    yield ids
    yield state.sessions
    for name in ("code", "maximum_quantity", "checks"):
        yield state.instruments[name]
    for name in ("client_order_ids", "accounts", "positions", "orders", "killed"):
        yield state.tables[name]
