"""The limits file: what it says is what the gateway gets, and what is wrong with it is said."""

import re
from pathlib import Path

import pytest

from host.demo import DEMO_LIMITS
from host.gateway.limits import Limits, LimitsError, dump_limits, load_limits
from host.gateway.terms import DEFAULT_ACCOUNT, Account, Instrument, Position, SelfTrade, Session

INSTRUMENT = '[[instrument]]\nsymbol = "ELM"\nreference_price = "42.5"\nmaximum_quantity = "100"\n'


@pytest.fixture
def load(tmp_path):
    def load(text: str) -> Limits:
        path = tmp_path / "limits.toml"
        path.write_text(text)
        return load_limits(path)

    return load


def test_a_dumped_file_loads_as_what_it_was(load):
    assert load(dump_limits(DEMO_LIMITS)) == DEMO_LIMITS


def test_decimals_are_exact(load):
    limits = load(
        INSTRUMENT.replace("42.5", "-0.000000001").replace('"100"', '"0.00000001"')
        + 'collar_ppm = 50000\nsecurity_id = 7\n[[account]]\nname = "A"\norder_notional = "1.5"\n[nodes]\n4 = 3\n'
    )
    assert limits.instruments == (Instrument("ELM", -1, 1, 50_000, 7),)
    assert limits.accounts == (Account("A", order_notional=15 * 10**16),)
    assert limits.nodes == {4: 3}


def test_everything_that_can_be_said_is_read_and_written_again(load):
    limits = Limits(
        (Instrument("ELM", -5, 7, 1, 2, 3, 10**17 + 1, restricted=True, shortable=False), Instrument("OAK", 1, 1)),
        (Account('A "x"', 1, 2, 3, 4, 5, 6, 7, 8, SelfTrade.CANCEL_OLDEST, mark_shorts=True), Account("B")),
        {3: 4},
        (Session(7, 1, 2, 3, 4, drop_on_disconnect=True), Session(0)),
        (Position("B", "OAK", 0, 6, restricted=True, located=True), Position("B", "ELM")),
        Account("", 9, order_rate=5),
    )
    assert load(dump_limits(limits)) == limits


def test_what_the_default_account_does_not_say_is_as_without_a_file(load):
    limits = load('[default_account]\ngross_notional = "5"\n')
    assert limits.default_account.order_notional == DEFAULT_ACCOUNT.order_notional
    assert limits.default_account.gross_notional == 5 * 10**17


def test_the_pages_example_loads(load):
    page = (Path(__file__).resolve().parents[3] / "docs" / "gateway.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    limits = load(example)
    assert limits.accounts[0].self_trade is SelfTrade.CANCEL_NEWEST
    assert limits.positions == (Position("FUND-1", "ELM", long_quantity=10_000 * 10**8, located=True),)
    assert limits.sessions[0].drop_on_disconnect


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x", "not a TOML file"),
        ("[venue]\n", "unknown table 'venue'"),
        ("instrument = 3\n", "'instrument' must be an array of tables"),
        ('[[instrument]]\nsymbol = "ELM"\n', "instrument 'ELM': 'reference_price' is missing"),
        (INSTRUMENT + "colar_ppm = 1\n", "instrument 'ELM': unknown key 'colar_ppm'"),
        (INSTRUMENT + 'collar_ppm = "5"\n', "'collar_ppm' must be an integer"),
        (INSTRUMENT + "collar_ppm = 2000000\n", "ELM: a collar is 0 to 1000000 millionths"),
        (INSTRUMENT.replace('"42.5"', "42.5"), "'reference_price' must be a decimal number as a string"),
        (INSTRUMENT.replace("42.5", "4.0000000001"), "'reference_price' has more than 9 decimals"),
        (INSTRUMENT.replace("42.5", "NaN"), "'reference_price' has more than 9 decimals"),
        (INSTRUMENT.replace("42.5", "99999999999"), "does not fit 64 bits"),
        ("[nodes]\nleft = 1\n", "'left = 1' is not a node number and a weight"),
        ("[nodes]\n300 = 1\n", "node number 300"),
        (INSTRUMENT + INSTRUMENT, "instrument ELM is configured twice"),
        (INSTRUMENT + "restricted = 1\n", "instrument 'ELM': 'restricted' must be true or false"),
        (INSTRUMENT + "fat_finger_ppm = -1\n", "ELM: the distance from the book is 0 to 1000000 millionths"),
        (INSTRUMENT.replace('"100"', '"99999999999"'), "ELM: the maximum quantity is not above 0 and below 2^62"),
        ('[[account]]\nname = ""\n', "an account needs a name"),
        ('[[account]]\nname = "A"\nself_trade = "no"\n', "'self_trade' must be one of allowed, cancel_newest,"),
        ('[[account]]\nname = "A"\norder_rate = 2000000000\n', "A: an order rate is 0 (any) to 1000000000 a second"),
        ('[[account]]\nname = "A"\norder_burst = 0\n', "A: an order burst is 1 to 1000000000"),
        ('[[account]]\nname = "A"\ngross_notional = "-1"\n', "A: a notional limit is 0 to 2^127 - 1"),
        ("[[session]]\n", "session '?': 'session' is missing"),
        ("[[session]]\nsession = 65535\n", "session 65535: a session is 0 to 65534"),
        ("[[session]]\nsession = 1\n[[session]]\nsession = 1\n", "session 1 is configured twice"),
        ('[[position]]\naccount = "A"\ninstrument = "ELM"\n', "position A in ELM: there is no account 'A'"),
        ('[[account]]\nname = "A"\n[[position]]\naccount = "A"\ninstrument = "ELM"\n', "there is no instrument 'ELM'"),
        ('[default_account]\nname = "x"\n', "'default_account' must be a table without a name"),
        ("[default_account]\nnotional = 5\n", "'notional' must be a decimal number as a string"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(load, text, reason):
    with pytest.raises(LimitsError) as caught:
        load(text)
    assert reason in str(caught.value)
    assert "limits.toml: " in str(caught.value)
    assert "\n" not in str(caught.value)
