"""What a schema has, for people (tables) and for programs (JSON)."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from hdl.sbe_encoding import Composite, Encoding, Leaf, Presence, Simple
from hdl.sbe_profile import BY_ENTRY_TYPE
from hdl.sbe_schema import Block, Data, Field, Group, Message, Schema
from hdl.sbe_venue import Venue
from hdl.sbe_walker import undecodable


def frames_text(venue: Venue, message: Message) -> str:
    """The kinds of the frames that a message gives."""
    plan = next(plan for plan in venue.plans if plan.message.id == message.id)
    kinds = [
        BY_ENTRY_TYPE if block.kind is None else block.kind.name.lower().replace("_", " ") for block in plan.blocks
    ]
    # Entries come first: the root gives a frame only where there are none.
    return ", ".join(dict.fromkeys(kinds[1:] or kinds))


def schema_json(schema: Schema, venue: Venue | None) -> dict[str, Any]:
    """A schema under fixed names. Offsets and sizes are in bytes. With a profile, ``frames`` are the
    kinds of a message's frames, ``rtl`` is whether that card decodes it, and ``rtl_reason`` why it does not."""
    return {
        "path": schema.path,
        "package": schema.package,
        "id": schema.id,
        "version": schema.version,
        "semantic_version": schema.semantic_version,
        "byte_order": schema.byte_order,
        "header": {
            "size": schema.header.size,
            "fields": [_leaf_json(leaf) for leaf in schema.header.leaves],
        },
        "messages": [_message_json(message, venue) for message in schema.messages],
    }


def _message_json(message: Message, venue: Venue | None) -> dict[str, Any]:
    if venue is None:
        return _block_json(message)
    reason = undecodable(venue)
    return _block_json(message) | {"frames": frames_text(venue, message), "rtl": reason is None, "rtl_reason": reason}


def _block_json(block: Block) -> dict[str, Any]:
    return {
        "name": block.name,
        "id": block.id,
        "semantic_type": block.semantic_type,
        "since_version": block.since_version,
        "deprecated": block.deprecated,
        "block_length": block.block_length,
        "fields": [_field_json(field) for field in block.fields],
        "groups": [
            _block_json(group)
            | {
                "dimension": {
                    "size": group.dimension.size,
                    "block_length": group.dimension.block_length._asdict(),
                    "count": group.dimension.count._asdict(),
                }
            }
            for group in block.groups
        ],
        "data": [
            {
                "name": data.name,
                "id": data.id,
                "length": data.length._asdict(),
                "text": data.is_text,
                "since_version": data.since_version,
                "deprecated": data.deprecated,
            }
            for data in block.data
        ],
    }


def _field_json(field: Field) -> dict[str, Any]:
    return {
        "name": field.name,
        "id": field.id,
        "offset": field.offset,
        "size": field.size,
        "type": field.encoding.described(),
        "semantic_type": field.semantic_type,
        "since_version": field.since_version,
        "deprecated": field.deprecated,
        "values": [_leaf_json(leaf) for leaf in field.leaves()],
    }


def _leaf_json(leaf: Leaf) -> dict[str, Any]:
    encoding = leaf.encoding
    constant = encoding.constant
    return {
        "name": leaf.name,
        "offset": leaf.offset,
        "size": encoding.size,
        "type": encoding.described(),
        "presence": encoding.presence.value,
        "null": _number(encoding.null),
        "minimum": _number(encoding.minimum),
        "maximum": _number(encoding.maximum),
        "constant": constant.decode("ascii") if isinstance(constant, bytes) else constant,
        "values": {value.name: value.number for value in encoding.values},
        "choices": {choice.name: choice.number for choice in encoding.choices},
    }


def _number(number: int | float | None) -> int | float | str | None:
    """A number as JSON has it, which knows no NaN."""
    return "NaN" if number is not None and number != number else number


def summary(schema: Schema, venue: Venue | None) -> str:
    """What holds for all messages, a line each."""
    count = len(schema.messages)
    header = ", ".join(f"{leaf.name} {leaf.encoding.described()}" for leaf in schema.header.leaves)
    version = f"version {schema.version}" + (f" ({schema.semantic_version})" if schema.semantic_version else "")
    return (
        f"{schema.path}: package {schema.package or '(none)'}, schema {schema.id}, {version}, {schema.byte_order} endian\n"
        f"header of {schema.header.size} bytes: {header}\n"
        + (f"profile {venue.profile.title} ({venue.profile.path})\n" if venue else "")
        + f"{count} message{'s' if count != 1 else ''}\n"
    )


def messages_table(schema: Schema, venue: Venue | None) -> Table:
    """A line for each message: what it is made of, and what cards make of it."""
    table = _table("Messages")
    for name in ("id", "name", "frames", "since", "block", "groups", "data", "rtl:"):
        table.add_column(
            name,
            justify="left" if name in ("name", "frames", "rtl:") else "right",
            no_wrap=name not in ("name", "frames"),
            overflow="fold",
        )
    for message in schema.messages:
        table.add_row(
            str(message.id),
            message.name,
            "" if venue is None else frames_text(venue, message),
            since_text(message),
            str(message.block_length),
            str(sum(1 for _ in _groups(message))),
            str(len(message.data) + sum(len(group.data) for group in _groups(message))),
            "" if venue is None else "yes" if undecodable(venue) is None else "no",
        )
    return table


def _groups(block: Block) -> Iterator[Group]:
    for group in block.groups:
        yield group
        yield from _groups(group)


def fields_table(message: Message) -> Table:
    """A line for each field of a message, groups and var data among them, indented by their depth."""
    table = _table(f"\n{message.id} {message.name}: {message.block_length} bytes")
    for name in ("offset", "size", "id", "since", "field", "type", "absent"):
        table.add_column(
            name,
            justify="right" if name in ("id", "offset", "size", "since") else "left",
            no_wrap=name in ("field", "since"),
        )
    _add_block(table, message, 0)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)


def _add_block(table: Table, block: Block, depth: int) -> None:
    indent = "  " * depth
    for field in block.fields:
        table.add_row(
            str(field.offset) if field.size else "",
            str(field.size),
            str(field.id),
            since_text(field),
            indent + field.name,
            field.encoding.described(),
            _absence(field.encoding),
        )
        if isinstance(field.encoding, Composite):
            for leaf in field.leaves():
                table.add_row(
                    str(leaf.offset) if leaf.encoding.size else "",
                    str(leaf.encoding.size),
                    "",
                    str(leaf.since_version or ""),
                    indent + "." + ".".join(leaf.path[1:]),
                    leaf.encoding.described(),
                    _absence(leaf.encoding),
                )
    for group in block.groups:
        row = f"group, {group.block_length} bytes an entry"
        table.add_row("", "", str(group.id or ""), since_text(group), f"{indent}{group.name}:", row)
        _add_block(table, group, depth + 1)
    for data in block.data:
        row = f"{'text' if data.is_text else 'bytes'} behind a length of {data.length.size} bytes"
        table.add_row("", "", str(data.id), since_text(data), indent + data.name, row)


def since_text(part: Block | Field | Data) -> str:
    """The version in which a part was added, and the one since which it is deprecated; empty for version 0."""
    text = str(part.since_version or "")
    return text if part.deprecated is None else f"{text} deprecated {part.deprecated}".strip()


def _absence(encoding: Encoding) -> str:
    """The null or the constant of an encoding that is one value."""
    if not isinstance(encoding, Simple):
        return ""
    if encoding.presence is Presence.CONSTANT:
        constant = encoding.constant
        return f"always {constant.decode('ascii') if isinstance(constant, bytes) else constant}"
    return "" if encoding.null is None else f"null {_number(encoding.null)}"
