"""Profiles: how a venue's SBE messages become frames (docs/profiles.md). A profile is a small TOML file.

It says what stands in front of messages, which kind a template's frames have, and which fields feed which field of the
frame. Nothing of a venue is in the code.
"""

import fnmatch
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hdl.frame import FIELDS, Kind
from hdl.sbe_framing import Framing, FramingError, read_framing
from hdl.sbe_schema import Schema

SHIPPED = Path(__file__).parent / "profiles"
"""The folder of the profiles that come with the project."""

BY_ENTRY_TYPE = "by entry type"
"""In the place of a kind: BOOK_UPDATE, TRADE or STATISTIC, as the entry's MDEntryType says."""

KINDS = {
    kind.name.lower().replace("_", " "): kind for kind in Kind if kind not in (Kind.EMPTY, Kind.GAP, Kind.MALFORMED)
}
"""Kinds as profiles write them."""

PROFILE_FIELDS = (
    "price",
    "quantity",
    "instrument",
    "sequence",
    "entry_type",
    "update_action",
    "price_level",
    "number_of_orders",
    "instrument_sequence",
    "side",
    "order_type",
    "time_in_force",
    "client_order_id",
    "original_order_id",
    "symbol",
    "account",
)
"""Fields of the frame that a profile can fill."""

TRANSLATED = ("entry_type", "update_action", "side", "order_type", "time_in_force")
"""Those that are characters of FIX, so that a venue's own values may have to be translated."""

BOOK_FIELDS = (
    "order_id",
    "priority",
    "entry",
    "aggressor",
    "last_sequence",
    "chunk",
    "chunks",
    "status",
    "end_of_event",
)
"""What books need of a message and the frame does not carry: read from the raw message (docs/books.md)."""

assert set(PROFILE_FIELDS) <= {each.name for each in FIELDS}


class ProfileError(ValueError):
    """A profile is wrong, or there is none for a schema; one line that says where and what to do."""


@dataclass(frozen=True)
class Rule:
    """What the frames of some blocks are."""

    pattern: str
    """Of ``Template``, then it is for its groups too, or of ``Template.Group``."""
    kind: Kind | None = Kind.OTHER
    """None: by entry type."""
    constants: tuple[tuple[str, int], ...] = ()
    """Frame field → character, for blocks that do not say so themselves."""

    def matches(self, path: tuple[str, ...]) -> bool:
        """Whether it is for the block ``(template, group, …)``."""
        name = ".".join(path) if "." in self.pattern else path[0]
        return fnmatch.fnmatchcase(name, self.pattern)


class Candidate(NamedTuple):
    """A field of the schema that may feed a field of the frame, by name or id."""

    field: str | int
    exponent: int | None = None
    """Of an integer that is a price or quantity: its decimal exponent, where the schema only says it in words."""

    def __str__(self) -> str:
        return str(self.field)


@dataclass(frozen=True)
class BookRules:
    """How a venue's frames make books (docs/books.md): the profile's section ``[books]``."""

    snapshots: tuple[str, ...] = ()
    """Templates (patterns) whose messages have an instrument's whole book."""
    contiguous: bool = False
    """Whether the instruments' own sequence numbers count 1, 2, 3, so that a hole tells of a lost update."""
    outright_depth: int = 0
    """Price levels of a side, where no definition says so; 0: as many as come."""
    implied_depth: int = 0
    end_of_event_bit: int = 0
    """Of the field ``end_of_event``: the bit that is set in an event's last message."""
    fields: tuple[tuple[str, tuple[Candidate, ...]], ...] = ()
    """One of BOOK_FIELDS → fields of the schema, in order of preference."""

    def is_snapshot(self, template: str) -> bool:
        """Whether a template's messages have an instrument's whole book."""
        return any(fnmatch.fnmatchcase(template, pattern) for pattern in self.snapshots)


@dataclass(frozen=True)
class Profile:
    """A profile. ``rules`` and the candidates of ``fields`` are in order of preference."""

    title: str
    packages: tuple[str, ...]
    """The schemas that it is for, by their ``package`` (patterns)."""
    framing: Framing
    rules: tuple[Rule, ...] = ()
    fields: tuple[tuple[str, tuple[Candidate, ...]], ...] = ()
    """Frame field → fields of the schema."""
    values: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    """Frame field → the venue's value (an enum's name, or a number) → FIX's character."""
    path: str = ""
    # Cards know nothing of books: what a profile says of them is not part of what tells one card's venue from another's.
    books: BookRules = field(default=BookRules(), repr=False)

    def is_for(self, schema: Schema) -> bool:
        """Whether the profile says that it is for a schema."""
        return any(fnmatch.fnmatchcase(schema.package, pattern) for pattern in self.packages)

    def rule_of(self, path: tuple[str, ...]) -> Rule:
        """The first rule for the block ``(template, group, …)``; where there is none, its frames are OTHER."""
        return next((rule for rule in self.rules if rule.matches(path)), Rule("*"))


def load_profile(path: Path | str) -> Profile:
    """Read a profile. Raises :class:`ProfileError` for what is wrong in it, OSError where it cannot be read."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: not TOML ({error})") from None
    try:
        return _read(table, str(path))
    except (_Wrong, FramingError) as error:
        raise ProfileError(f"{path}: {error}") from None


def shipped_profiles() -> dict[str, Path]:
    """The profiles that come with the project, by the name that ``--profile`` takes."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


MOST_LEVELS = 64
"""Price levels that a side with numbered levels may have at most; venues have 5 to 20."""

BESIDE = ".profile.toml"
"""What a schema's own profile has in the place of ``.xml``."""


def find_profile(schema: Schema, name: str | None = None) -> Profile:
    """The profile ``name`` (a shipped one's, or a file's). Without one, that beside the schema (``X.profile.toml`` beside ``X.xml``), else
    the shipped one that is for the schema's package.

    Raises :class:`ProfileError` where there is none, OSError where a file cannot be read.
    """
    shipped = shipped_profiles()
    if name is not None:
        return load_profile(shipped.get(name, Path(name)))
    beside = Path(schema.path).with_suffix(BESIDE)
    if schema.path and beside.exists():
        return load_profile(beside)
    for path in shipped.values():
        if (profile := load_profile(path)).is_for(schema):
            return profile
    raise ProfileError(
        f"{schema.path}: no profile is for package '{schema.package}': name one with --profile, or draft one with "
        f"'tickgate schema {schema.path} --suggest-profile'"
    )


class _Wrong(ValueError):
    pass


def _read(table: dict[str, Any], path: str) -> Profile:
    table = dict(table)
    framing_table = _table(table, "framing")
    try:
        framing = read_framing(framing_table)
    except FramingError as error:
        raise _Wrong(f"[framing] {error}") from None
    packages = table.pop("packages", [])
    if not isinstance(packages, list) or not all(isinstance(each, str) for each in packages):
        raise _Wrong("packages is no list of names")
    title = table.pop("title", Path(path).stem)
    rules = tuple(_rule(pattern, given) for pattern, given in _table(table, "frames").items())
    fields = tuple((name, _candidates(name, given)) for name, given in _table(table, "fields").items())
    values = tuple((name, _translation(name, given)) for name, given in _table(table, "values").items())
    books = _book_rules(_table(table, "books"))
    if table:
        raise _Wrong(f"'{next(iter(table))}' is not known")
    return Profile(str(title), tuple(packages), framing, rules, fields, values, path, books)


def _table(table: dict[str, Any], name: str) -> dict[str, Any]:
    part = table.pop(name, {})
    if not isinstance(part, dict):
        raise _Wrong(f"{name} is no table")
    return part


def _rule(pattern: str, given: object) -> Rule:
    where = f"[frames] '{pattern}'"
    constants = dict(given) if isinstance(given, dict) else {}
    text = constants.pop("kind", None) if isinstance(given, dict) else given
    if text != BY_ENTRY_TYPE and (not isinstance(text, str) or text not in KINDS):
        raise _Wrong(f"{where}: kind '{text}' is none of {', '.join([*KINDS, BY_ENTRY_TYPE])}")
    for name, char in constants.items():
        if name not in TRANSLATED:
            raise _Wrong(f"{where}: '{name}' is none of {', '.join(TRANSLATED)}")
        _check_character(f"{where}: {name}", char)
    return Rule(pattern, KINDS.get(text), tuple((name, ord(char)) for name, char in constants.items()))


def _check_character(where: str, char: object) -> None:
    if not isinstance(char, str) or len(char) != 1 or not char.isascii():
        raise _Wrong(f"{where}: '{char}' is not one character")


def _candidates(name: str, given: object) -> tuple[Candidate, ...]:
    if name not in PROFILE_FIELDS:
        raise _Wrong(f"[fields] '{name}' is none of {', '.join(PROFILE_FIELDS)}")
    listed = given if isinstance(given, list) else [given]
    if not listed:
        raise _Wrong(f"[fields] {name}: an empty list")
    return tuple(_candidate(name, each) for each in listed)


def _candidate(name: str, given: object) -> Candidate:
    exponent = None
    field = given
    if isinstance(given, dict):
        field, exponent = given.get("field"), given.get("exponent")
        if set(given) != {"field", "exponent"} or not isinstance(exponent, int) or name not in ("price", "quantity"):
            raise _Wrong(
                f"[fields] {name}: a table is {{ field = …, exponent = … }}, of a price or quantity that is a whole number"
            )
    if not isinstance(field, str | int):
        raise _Wrong(f"[fields] {name}: '{field}' is neither a field's name nor its id")
    return Candidate(field, exponent)


def _translation(name: str, given: object) -> tuple[tuple[str, str], ...]:
    if name not in TRANSLATED:
        raise _Wrong(f"[values] '{name}' is none of {', '.join(TRANSLATED)}")
    if not isinstance(given, dict):
        raise _Wrong(f"[values.{name}] is no table")
    for value, char in given.items():
        _check_character(f"[values.{name}] '{value}'", char)
    return tuple(given.items())


def _book_rules(table: dict[str, Any]) -> BookRules:
    snapshots = table.pop("snapshots", [])
    if not isinstance(snapshots, list) or not all(isinstance(each, str) for each in snapshots):
        raise _Wrong("[books] snapshots is no list of templates")
    contiguous = table.pop("contiguous", False)
    if not isinstance(contiguous, bool):
        raise _Wrong("[books] contiguous is neither true nor false")
    depth = _table(table, "depth")
    levels = [depth.pop(name, 0) for name in ("outright", "implied")]
    if depth or not all(isinstance(each, int) and 0 <= each <= MOST_LEVELS for each in levels):
        raise _Wrong(f"[books] depth is a table {{ outright = …, implied = … }} of 0 to {MOST_LEVELS} price levels")
    bit = 0
    given = table.get("end_of_event")
    if isinstance(given, dict):
        bit = given.get("bit", -1)
        if set(given) != {"field", "bit"} or not isinstance(bit, int) or not 0 <= bit < 64:
            raise _Wrong("[books] end_of_event is a table { field = …, bit = … }, or a field that is not 0 at the end")
        table["end_of_event"] = given["field"]
    for name in table:
        if name not in BOOK_FIELDS:
            raise _Wrong(f"[books] '{name}' is none of snapshots, contiguous, depth, {', '.join(BOOK_FIELDS)}")
    fields = tuple((name, _book_candidates(name, given)) for name, given in table.items())
    return BookRules(tuple(snapshots), contiguous, levels[0], levels[1], bit, fields)


def _book_candidates(name: str, given: object) -> tuple[Candidate, ...]:
    listed: list[Any] = given if isinstance(given, list) else [given]
    if not listed or not all(isinstance(each, str | int) for each in listed):
        raise _Wrong(f"[books] {name}: neither a field's name or id nor a list of them")
    return tuple(Candidate(each) for each in listed)
