"""Profiles: what they say, what is refused, and what follows from one for a schema."""

from pathlib import Path

import pytest

from hdl.frame import Kind
from hdl.sbe_framing import End, Framing
from hdl.sbe_plan import BlockPlan, FramePlan, plan_frames
from hdl.sbe_profile import BESIDE, ProfileError, find_profile, load_profile, shipped_profiles
from hdl.sbe_schema import SchemaError, Slot, load_schema
from hdl.sbe_suggest import suggest_profile
from hdl.sbe_venue import Venue, load_venue

TYPES = """<types>
  <composite name="messageHeader"><type name="blockLength" primitiveType="uint16"/><type name="templateId" primitiveType="uint16"/>
    <type name="schemaId" primitiveType="uint16"/><type name="version" primitiveType="uint16"/></composite>
  <composite name="groupSizeEncoding"><type name="blockLength" primitiveType="uint16"/><type name="numInGroup" primitiveType="uint8"/></composite>
  <composite name="Price"><type name="mantissa" primitiveType="int64"/><type name="exponent" primitiveType="int8" presence="constant">-4</type></composite>
  <composite name="Wire"><type name="mantissa" primitiveType="int64"/><type name="exponent" primitiveType="int8"/></composite>
  <composite name="Tiny"><type name="mantissa" primitiveType="int64"/><type name="exponent" primitiveType="int8" presence="constant">-10</type></composite>
  <composite name="Place"><type name="id" primitiveType="uint32"/><enum name="way" encodingType="int8"><validValue name="Buy">1</validValue><validValue name="Sell">-1</validValue></enum></composite>
  <type name="Text" primitiveType="char" length="6"/>
  <type name="Fixed" primitiveType="char" presence="constant">2</type>
  <enum name="Entry" encodingType="char"><validValue name="Bid">0</validValue></enum>
</types>"""

FRAMING = '[framing]\nmessage = { end = "packet" }\n'


def message(body: str, name: str = "M", number: int = 1) -> str:
    return f'<message name="{name}" id="{number}">{body}</message>'


def schema_file(folder: Path, body: str, package: str = "p") -> Path:
    path = folder / "schema.xml"
    path.write_text(f'<messageSchema package="{package}" id="7">{TYPES}{body}</messageSchema>')
    return path


def venue(folder: Path, body: str, profile: str) -> Venue:
    path = schema_file(folder, body)
    path.with_suffix(BESIDE).write_text(FRAMING + profile)
    return load_venue(path)


def only_plan(folder: Path, body: str, profile: str) -> FramePlan:
    (plan,) = venue(folder, message(body), profile).plans
    return plan


def read(folder: Path, text: str):
    path = folder / "profile.toml"
    path.write_text(text)
    return load_profile(path)


@pytest.mark.parametrize(
    ("text", "framing"),
    [
        ('message = { end = "packet" }', Framing()),
        (
            'packet = { size = 12, sequence = "u32@0" }\nmessage = { size = 2, length = "u16@0", counts = "all" }',
            Framing("little", 12, Slot(0, 4), 2, End.LENGTH, Slot(0, 2), 2),
        ),
        (
            'byte_order = "big"\nmessage = { size = 6, length = "u32@0", counts = "all", magic = "u16@4 = 0xEB50" }',
            Framing("big", 0, None, 6, End.LENGTH, Slot(0, 4), 6, None, Slot(4, 2), 0xEB50),
        ),
        (
            'message = { length = "u16@2", sequence = "u32@4", magic = "u8@0 = 241" }',
            Framing("little", 0, None, 0, End.LENGTH, Slot(2, 2), 0, Slot(4, 4), Slot(0, 1), 241),
        ),
        (
            'packet = { size = 8, sequence = "u32@4" }\nmessage = { end = "structure" }',
            Framing("little", 8, Slot(4, 4), 0, End.STRUCTURE),
        ),
    ],
)
def test_framings_are_described(tmp_path, text, framing):
    assert read(tmp_path, f"[framing]\n{text}").framing == framing


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "not TOML"),
        ("", "[framing] message needs a length (such as 'u16@0'), or end = 'packet' or 'structure'"),
        ("framing = 3", "framing is no table"),
        ('[framing]\nmessage = { length = "u16@0", end = "packet" }', "message needs a length"),
        ('[framing]\nmessage = { end = "never" }', "message: end 'never' is neither 'packet' nor 'structure'"),
        ('[framing]\nmessage = { length = "u24@0" }', "message: length 'u24@0' is not written like 'u16@0'"),
        ('[framing]\nmessage = { length = "u16@63" }', "message: length 'u16@63' stands behind the end"),
        ('[framing]\nmessage = { length = "u16@0", counts = "some" }', "message: counts 'some' is neither"),
        ('[framing]\nmessage = { end = "packet", magic = "u8@0 = 256" }', "does not fit its 1 bytes"),
        ('[framing]\nmessage = { end = "packet", magic = "x" }', "magic 'x' is not written like 'u16@2 = 0xCAFE'"),
        ('[framing]\nmessage = { end = "packet", colour = 1 }', "message: 'colour' is not known"),
        ('[framing]\npacket = { size = 65 }\nmessage = { end = "packet" }', "packet: size 65 is not a number of bytes"),
        ('[framing]\npacket = { size = 4, sequence = "u32@1" }\nmessage = { end = "packet" }', "stands behind the end"),
        ('[framing]\nbyte_order = "middle"', "byte_order 'middle' is neither 'little' nor 'big'"),
        (FRAMING + '[frames]\n"M" = "order"', "[frames] 'M': kind 'order' is none of new order, cancel"),
        (FRAMING + '[frames]\n"M" = { kind = "trade", price = "1" }', "[frames] 'M': 'price' is none of entry_type"),
        (FRAMING + '[frames]\n"M" = { kind = "trade", side = "12" }', "[frames] 'M': side: '12' is not one character"),
        (FRAMING + '[fields]\ncolour = "x"', "[fields] 'colour' is none of price"),
        (FRAMING + "[fields]\nprice = []", "[fields] price: an empty list"),
        (FRAMING + "[fields]\nprice = 1.5", "[fields] price: '1.5' is neither a field's name nor its id"),
        (FRAMING + '[fields]\nside = { field = "x", exponent = 1 }', "[fields] side: a table is"),
        (FRAMING + '[values.price]\nx = "1"', "[values] 'price' is none of entry_type"),
        (FRAMING + '[values.side]\nx = "12"', "[values.side] 'x': '12' is not one character"),
        (FRAMING + '[books]\nsnapshots = "M"', "[books] snapshots is no list of templates"),
        (FRAMING + "[books]\ncontiguous = 1", "[books] contiguous is neither true nor false"),
        (FRAMING + "[books]\ndepth = { outright = 65 }", "[books] depth is a table"),
        (FRAMING + '[books]\nend_of_event = { field = "x", bit = 64 }', "[books] end_of_event is a table"),
        (FRAMING + "[books]\norder_id = []", "[books] order_id: neither a field's name or id nor a list of them"),
        (FRAMING + '[books]\ncolour = "x"', "[books] 'colour' is none of snapshots, contiguous, depth, order_id"),
        ('packages = "p"\n' + FRAMING, "packages is no list of names"),
        ("colour = 1\n" + FRAMING, "'colour' is not known"),
    ],
)
def test_what_is_wrong_in_a_profile_is_told_with_its_file(tmp_path, text, reason):
    with pytest.raises(ProfileError) as refusal:
        read(tmp_path, text)
    assert str(refusal.value).startswith(f"{tmp_path / 'profile.toml'}: ")
    assert reason in str(refusal.value)


def test_a_profile_is_found_by_name_beside_the_schema_and_by_package(tmp_path):
    path = schema_file(tmp_path, message(""), package="mktdata")
    schema = load_schema(path)
    assert find_profile(schema).title == "CME MDP 3.0 market data"
    path.with_suffix(BESIDE).write_text('title = "Beside"\n' + FRAMING)
    assert find_profile(schema).title == "Beside"
    assert find_profile(schema, "b3_umdf").title == "B3 UMDF market data by order"
    assert find_profile(schema, str(path.with_suffix(BESIDE))).title == "Beside"
    with pytest.raises(OSError, match="nowhere"):
        find_profile(schema, "nowhere.toml")
    path.with_suffix(BESIDE).unlink()
    with pytest.raises(ProfileError, match=r"no profile is for package 'q'.*--suggest-profile"):
        find_profile(load_schema(schema_file(tmp_path, message(""), package="q")))


GROUP = (
    '<field name="Id" id="48" type="uint32"/><field name="Px" id="44" type="Price"/><group name="G" id="268">{}</group>'
)


def test_an_entry_takes_price_from_itself_only_and_the_instrument_from_the_root_too(tmp_path):
    plan = only_plan(
        tmp_path,
        GROUP.format('<field name="T" id="269" type="Entry"/>'),
        '[frames]\n"M" = "by entry type"\n[fields]\nprice = "Px"\ninstrument = "Id"\nentry_type = "T"',
    )
    assert (plan.root.sources["price"].scale, plan.root.kind) == (10**5, Kind.OTHER)
    (entry,) = plan.entries
    assert set(entry.sources) == {"instrument", "entry_type"}
    assert entry.sources["instrument"].value.level == 0
    assert entry.kind is None


def test_the_preferred_name_wins_whatever_the_order_of_the_fields_and_the_nearest_block_before_all(tmp_path):
    inner = '<field name="A" id="31" type="Price"/><field name="Id" id="1" type="uint8"/>'
    middle = f'<field name="A" id="31" type="uint8"/><field name="B" id="270" type="uint16"/><group name="H" id="9">{inner}</group>'
    plan = only_plan(tmp_path, GROUP.format(middle), '[fields]\nprice = ["B", 31]\ninstrument = "Id"')
    outer, inner_plan = plan.entries
    assert (outer.sources["price"].value.leaf.name, outer.sources["price"].scale) == ("B", 10**9)
    assert inner_plan.sources["price"].value.leaf.name == "A.mantissa"
    assert (inner_plan.level, inner_plan.sources["instrument"].value.level) == (2, 2)
    assert outer.sources["instrument"].value.level == 0


def test_a_member_an_exponent_and_a_translation_may_be_named(tmp_path):
    plan = only_plan(
        tmp_path,
        '<field name="place" id="1" type="Place"/><field name="px" id="2" type="int64"/>',
        '[fields]\ninstrument = "place.id"\nside = "place.way"\nprice = { field = "px", exponent = -9 }\n'
        '[frames]\n"M" = "new order"\n[values.side]\nBuy = "1"\nSell = "2"\n"7" = "5"',
    ).root
    assert (plan.sources["instrument"].value.offset, plan.sources["price"].power) == (0, 0)
    assert plan.sources["side"].translation == ((1, ord("1")), (-1, ord("2")), (7, ord("5")))


def test_exponents_may_be_on_the_wire_or_in_another_field(tmp_path):
    plan = only_plan(
        tmp_path,
        '<field name="e" id="1" type="int8"/><group name="G" id="2"><field name="w" id="3" type="Wire"/>'
        '<field name="m" id="4" type="int64" exponent="e"/></group>',
        '[fields]\nprice = "w"\nquantity = "m"',
    ).entries[0]
    price, quantity = plan.sources["price"], plan.sources["quantity"]
    assert price.exponent is not None
    assert quantity.exponent is not None
    assert (price.power, price.exponent.leaf.name, price.exponent.level) == (9, "w.exponent", 1)
    assert (quantity.power, quantity.exponent.leaf.name, quantity.exponent.level) == (8, "e", 0)


def test_kinds_are_of_the_first_pattern_that_fits_and_constants_go_with_them(tmp_path):
    body = message('<group name="bids" id="1"/><group name="asks" id="2"/>', "Book", 1) + message("", "Beat", 2)
    plans = venue(
        tmp_path,
        body,
        '[frames]\n"*.bids" = { kind = "book update", entry_type = "0" }\n"B*" = "statistic"\n"Beat" = "session"',
    ).plans
    blocks: list[BlockPlan] = [block for plan in plans for block in plan.blocks]
    assert [(block.path[-1], block.kind) for block in blocks] == [
        ("Book", Kind.STATISTIC),
        ("bids", Kind.BOOK_UPDATE),
        ("asks", Kind.STATISTIC),
        ("Beat", Kind.STATISTIC),
    ]
    assert blocks[1].constants == {"entry_type": ord("0")}


@pytest.mark.parametrize(
    ("body", "fields", "reason"),
    [
        ('<field name="F" id="1" type="Text"/>', 'price = "F"', "field 'F' (id 1) gives the price, but is char[6], no number"),
        ('<field name="F" id="1" type="Tiny"/>', 'price = "F"', "a decimal with the exponent -10; -9 to 9 are possible"),
        ('<field name="F" id="1" type="Text"/>', 'side = "F"', "gives the side, but is char[6], neither a number nor a character"),
        ('<field name="F" id="1" type="char"/>', 'instrument = "F"', "gives the instrument, but is char, no whole number"),
        ('<field name="F" id="1" type="Place"/>', 'instrument = "F"', "gives the instrument, but is composite Place, neither"),
        ('<field name="F" id="1" type="Fixed"/>', 'client_order_id = "F"', "but is a constant, which stands nowhere"),
        ('<field name="F" id="1" type="double"/>', 'price = { field = "F", exponent = -2 }', "but is double, which has no exponent"),
        ('<field name="F" id="1" type="int64" exponent="E"/>', 'price = "F"', "without an exponent: there is no field 'E'"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_become_what_it_is_named_for_is_refused(tmp_path, body, fields, reason):
    with pytest.raises(SchemaError) as refusal:
        venue(tmp_path, message(body), f'[frames]\n"M" = "new order"\n[fields]\n{fields}')
    assert str(refusal.value).startswith(f"{tmp_path / 'schema.xml'}: message 'M': ")
    assert reason in str(refusal.value)


def test_names_that_the_schema_does_not_have_at_all_are_refused(tmp_path):
    with pytest.raises(SchemaError, match=r"\[fields\] price: the schema .*schema.xml has no field Prize, 44"):
        venue(tmp_path, message(""), '[fields]\nprice = ["Prize", 44]')


VENUES = {
    "cme_mdp3": ["omi/Cme.Futures.Mdp3.Sbe.v1.5.xml", "omi/Cme.Futures.Mdp3.Sbe.v1.6.xml"],
    "cme_ilink3": ["omi/Cme.Futures.iLink3.Sbe.v8.5.xml"],
    "b3_entrypoint": ["omi/B3.Equities.BinaryEntryPoint.Sbe.v8.0.xml", "omi/B3.Equities.BinaryEntryPoint.Sbe.v8.1.xml"],
    "b3_umdf": ["omi/B3.Equities.BinaryUmdf.Sbe.v1.8.xml"],
    "coinbase_orders": ["omi/Coinbase.Derivatives.OrdersApi.Sbe.v1.4.xml"],
    "coinbase_session": ["omi/Coinbase.Derivatives.Session.Sbe.v1.2.xml"],
    "coinbase_market_data": ["omi/Coinbase.Derivatives.MarketDataApi.Sbe.v1.2.xml"],
    "deribit_multicast": ["deribit_multicast_v3_RECONSTRUCTED.xml"],
    "binance_spot": ["binance/stream_1_0.xml", "binance/spot_3_5.xml"],
}


def test_every_shipped_profile_is_for_its_venue(shared_data):
    assert set(shipped_profiles()) == {*VENUES, "tickgate_demo"}
    for name, files in VENUES.items():
        for file in files:
            known = load_venue(shared_data / "schemas" / file)
            assert Path(known.profile.path).stem == name
            assert known.profile.title


def test_what_is_suggested_for_real_schemas_is_a_profile_that_fits_them(shared_data, tmp_path):
    for path in sorted(shared_data.glob("schemas/**/*.xml")):
        try:
            schema = load_schema(path)
        except SchemaError:
            continue
        profile = read(tmp_path, suggest_profile(schema))
        plans = plan_frames(schema, profile)
        assert len(plans) == len(schema.messages)
        if "Mdp3" in path.name:
            book = next(plan for plan in plans if plan.message.id == 32)
            assert book.entries[0].kind is None
            assert {"price", "quantity", "instrument", "entry_type", "price_level"} <= set(book.entries[0].sources)
