"""The limits file: what it says is what the gateway gets, and what is wrong with it is said."""

import pytest

from host.demo import DEMO_LIMITS
from host.gateway.limits import Limits, LimitsError, dump_limits, load_limits
from host.gateway.risk import Account, Instrument

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
        (INSTRUMENT + INSTRUMENT, "ELM"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(load, text, reason):
    with pytest.raises(LimitsError) as caught:
        load(text)
    assert reason in str(caught.value)
    assert "limits.toml: " in str(caught.value)
    assert "\n" not in str(caught.value)
