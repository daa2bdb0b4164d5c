"""StopPx, MaxFloor and ExecInst as they stand in the message's text."""

import numpy as np
import pytest

from host.cluster import Reason
from host.cluster.book import WHOLE
from host.cluster.order_terms import Terms, read_terms

HEAD = b"8=FIX.4.4\x019=120\x0135=D\x0149=CLIENT1\x0134=7\x0111=order\x0155=ABC\x01"
TAIL = b"60=20261126-10:00:00.000\x0138=10\x0110=123\x01"


def read(fields: bytes, head: bytes = HEAD, tail: bytes = TAIL) -> Terms:
    before, behind = b"10=000\x0199=7\x01", b"99=8\x01"
    payload = np.frombuffer(before + head + fields.replace(b"|", b"\x01") + tail + behind, np.uint8)
    return Terms(*(int(term) for term in read_terms(payload, len(before), len(payload) - len(behind))))


NOTHING = Terms(Reason.NONE, 0, 0, WHOLE, 0)


def test_each_term_is_read_wherever_it_stands() -> None:
    assert read(b"99=101.25|") == NOTHING._replace(stopped=1, stop_price=101_250_000_000)
    assert read(b"99=-0.000000001|") == NOTHING._replace(stopped=1, stop_price=-1)
    assert read(b"111=12.5|") == NOTHING._replace(display=1_250_000_000)
    assert read(b"18=6|") == NOTHING._replace(post_only=1)
    assert read(b"18=6 6|111=1|44=3|99=2|") == Terms(Reason.NONE, 1, 2 * 10**9, 10**8, 1)
    assert read(b"99=3", tail=b"") == NOTHING._replace(stopped=1, stop_price=3 * 10**9)


@pytest.mark.parametrize(
    "fields", [b"", b"1=99=5|", b"199=5|", b"1111=5|", b"118=6|", b"58=18=6|", b"999=1|", b"11=18|", b"9=9|9|"]
)
def test_what_only_looks_like_a_term_is_none(fields: bytes) -> None:
    assert read(fields) == NOTHING


def test_what_stands_within_data_is_no_term() -> None:
    assert read(b"95=14|96=a|99=1|111=2|z|18=6|") == NOTHING._replace(post_only=1)


def test_other_protocols_have_no_terms() -> None:
    assert read(b"99=5|", head=b"9=FIX.4.4\x01") == NOTHING
    assert read(b"", head=b"8=F", tail=b"") == NOTHING


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (b"99=|", Reason.BAD_STOP_PRICE),
        (b"99=1.2.3|", Reason.BAD_STOP_PRICE),
        (b"99=99999999999|", Reason.BAD_STOP_PRICE),
        (b"111=0|", Reason.BAD_DISPLAY_QUANTITY),
        (b"111=-1|", Reason.BAD_DISPLAY_QUANTITY),
        (b"111=0.000000001|", Reason.BAD_DISPLAY_QUANTITY),
        (b"18=|", Reason.UNSUPPORTED_INSTRUCTION),
        (b"18=G|", Reason.UNSUPPORTED_INSTRUCTION),
        (b"18=6 G|", Reason.UNSUPPORTED_INSTRUCTION),
        (b"18=66|", Reason.UNSUPPORTED_INSTRUCTION),
        (b"18=6 |", Reason.UNSUPPORTED_INSTRUCTION),
        (b"99=1|99=1|", Reason.REPEATED_TERM),
        (b"18=6|18=6|", Reason.REPEATED_TERM),
        (b"111=1|111=x|", Reason.BAD_DISPLAY_QUANTITY),
        (b"111=x|99=y|", Reason.BAD_DISPLAY_QUANTITY),
    ],
)
def test_a_malformed_term_refuses_the_order_with_its_reason(fields: bytes, reason: Reason) -> None:
    assert read(fields).reason == reason
