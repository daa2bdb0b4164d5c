"""Drafts a profile from what a schema says of its fields: semantic types, FIX ids, names."""

import json
from collections.abc import Iterator

from hdl.frame import Kind
from hdl.sbe_framing import Framing
from hdl.sbe_plan import COMMON, MARKET_DATA_FIELDS, ORDER_FIELDS, ORDER_KINDS, plan_frames
from hdl.sbe_profile import BY_ENTRY_TYPE, KINDS, Candidate, Profile, Rule
from hdl.sbe_schema import Block, Message, Schema, SchemaError

FIX_IDS: dict[str, tuple[int, ...]] = {
    "price": (270, 44, 31, 1364, 132, 566),
    "quantity": (271, 38, 32, 1365, 134, 623),
    "instrument": (48, 602),
    "sequence": (9726, 34),
    "entry_type": (269,),
    "update_action": (279,),
    "price_level": (1023,),
    "number_of_orders": (346,),
    "instrument_sequence": (83,),
    "side": (54,),
    "order_type": (40,),
    "time_in_force": (59,),
    "client_order_id": (11,),
    "original_order_id": (41,),
    "symbol": (55,),
    "account": (1,),
}
"""Tags of FIX by frame field, in order of preference."""

NAMES: dict[str, tuple[str, ...]] = {
    "price": ("mdentrypx", "lastpx", "fillprice", "price", "limitprice", "px"),
    "quantity": ("mdentrysize", "lastqty", "fillqty", "orderqty", "quantity", "qty", "amount", "size"),
    "instrument": ("securityid", "instrumentid", "instrument_id"),
    "sequence": ("msgseqnum", "seqnum"),
    "entry_type": ("mdentrytype", "entrytype"),
    "update_action": ("mdupdateaction", "updateaction"),
    "price_level": ("mdpricelevel", "pricelevel"),
    "number_of_orders": ("numberoforders", "ordercount"),
    "instrument_sequence": ("rptseq", "instrseqnum"),
    "side": ("side",),
    "order_type": ("ordtype", "ordertype"),
    "time_in_force": ("timeinforce",),
    "client_order_id": ("clordid", "clientorderid"),
    "original_order_id": ("origclordid", "originalclientorderid"),
    "symbol": ("symbol",),
    "account": ("account",),
}
"""Names by frame field, in small letters."""

KINDS_OF_TYPES: dict[str, str] = {
    "D": "new order",
    "F": "cancel",
    "G": "replace",
    "8": "execution",
    "9": "cancel reject",
    "X": BY_ENTRY_TYPE,
    "W": BY_ENTRY_TYPE,
    "d": "definition",
    "f": "status",
    **dict.fromkeys("012345A", "session"),
}
"""Kind by semantic type: FIX's MsgType."""

KINDS_OF_NAMES: tuple[tuple[str, str], ...] = (
    ("cancelreject", "cancel reject"),
    ("cancelreplacereject", "cancel reject"),
    ("executionreport", "execution"),
    ("orderfilled", "execution"),
    ("neworder", "new order"),
    ("replace", "replace"),
    ("modifyorder", "replace"),
    ("ordercancel", "cancel"),
    ("cancelorder", "cancel"),
    ("definition", "definition"),
    ("status", "status"),
    ("trade", "trade"),
    ("incrementalrefresh", BY_ENTRY_TYPE),
    ("snapshotfullrefresh", BY_ENTRY_TYPE),
    ("book", "book update"),
    ("depth", "book update"),
    ("heartbeat", "session"),
    ("logon", "session"),
    ("login", "session"),
    ("logout", "session"),
    ("negotiat", "session"),
    ("establish", "session"),
    ("terminate", "session"),
    ("retransmi", "session"),
    ("sequence", "session"),
)
"""Kind by what a template's name contains, in small letters; the first that fits."""

FRAMING = """\
[framing]
# A schema does not say what stands in front of its messages. Where each packet is one message:
message = { end = "packet" }
# CME: packet = { size = 12, sequence = "u32@0" }, message = { size = 2, length = "u16@0", counts = "all" }
# SOFH: byte_order = "big", message = { size = 6, length = "u32@0", counts = "all", magic = "u16@4 = 0xEB50" }
"""

HEADER_FRAMING = """\
[framing]
# The length is in the message header; whether it counts all of the message must be looked up.
byte_order = {order}
message = {{ length = {slot}, counts = "all" }}
"""


def suggest_profile(schema: Schema) -> str:
    """A profile's text: complete but for the framing, which no schema tells, and for what the venue means by its names."""
    lines = [
        f"# Drafted from {schema.path}: check kinds, fields and framing with the venue's documents.",
        f"title = {json.dumps(schema.package or 'A venue')}",
        f"packages = [{json.dumps(schema.package)}]",
        "",
        *_framing(schema).splitlines(),
        "",
        "[frames]",
    ]
    rules = dict(_rules(schema))
    lines += [f"{json.dumps(name)} = {json.dumps(kind)}" for name, kind in rules.items()]
    lines += ["", "[fields]"]
    for name, chosen, left_out in _fields(schema, rules):
        if chosen:
            lines.append(f"{name} = {json.dumps(chosen[0] if len(chosen) == 1 else chosen)}")
        lines += [f"# {name}: {reason}" for reason in left_out]
    return "\n".join(lines) + "\n"


def _framing(schema: Schema) -> str:
    for leaf in schema.header.leaves:
        if leaf.name.lower() in ("messagelength", "msglength") and leaf.encoding.is_integer:
            slot = json.dumps(f"u{leaf.encoding.primitive.bits}@{leaf.offset}")
            return HEADER_FRAMING.format(order=json.dumps(schema.byte_order), slot=slot)
    return FRAMING


def _rules(schema: Schema) -> Iterator[tuple[str, str]]:
    for message in schema.messages:
        kind = KINDS_OF_TYPES.get(message.semantic_type)
        if kind is None:
            name = message.name.replace("_", "").lower()
            kind = next((kind for part, kind in KINDS_OF_NAMES if part in name), None)
        if kind is not None:
            yield message.name, kind


def _fields(schema: Schema, rules: dict[str, str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Frame field, the schema's fields for it, and what was left out with the reason."""
    kinds = set(rules.values())
    orders = {name for name in ORDER_FIELDS if any(KINDS.get(kind) in ORDER_KINDS for kind in kinds)}
    for name in (*COMMON, *MARKET_DATA_FIELDS, *ORDER_FIELDS):
        if name in ORDER_FIELDS and name not in orders:
            continue
        chosen: list[str] = []
        left_out: list[str] = []
        for candidate in _candidates(schema, name):
            if (reason := _unusable(schema, rules, name, candidate)) is None:
                chosen.append(candidate)
            else:
                left_out.append(reason)
        yield name, chosen, left_out


def _candidates(schema: Schema, name: str) -> list[str]:
    """Names of fields that may be meant: by id where the schema uses FIX's, then by name."""
    leaves = [
        (leaf.path, field.id)
        for message in schema.messages
        for block in _blocks(message)
        for field in block.fields
        for leaf in field.leaves()
    ]
    by_id = [path[0] for wanted in FIX_IDS[name] for path, its_id in leaves if its_id == wanted]
    by_name = [
        path[0] if path[-1] in ("mantissa", "exponent") else ".".join(path)
        for wanted in NAMES[name]
        for path, _ in leaves
        if path[-1].lower() == wanted
    ]
    # An id that FIX has for this is worth no more than its name where the venue numbers its fields from 1.
    own_numbers = sum(1 for _, its_id in leaves if its_id < 30) > len(leaves) / 2
    return list(dict.fromkeys(by_name if own_numbers else by_id + by_name))


def _blocks(message: Message) -> Iterator[Block]:
    waiting: list[Block] = [message]
    while waiting:
        block = waiting.pop()
        yield block
        waiting += block.groups


def _unusable(schema: Schema, rules: dict[str, str], name: str, candidate: str) -> str | None:
    """Why a field cannot feed the frame's, None where it can."""
    profile = Profile(
        "",
        (),
        Framing(),
        rules=tuple(
            Rule(template, KINDS.get(kind, Kind.OTHER) if kind != BY_ENTRY_TYPE else None)
            for template, kind in rules.items()
        ),
        fields=((name, (Candidate(candidate),)),),
    )
    try:
        plan_frames(schema, profile)
    except SchemaError as error:
        return str(error.problems[0]).removeprefix(f"{schema.path}: ")
    return None
