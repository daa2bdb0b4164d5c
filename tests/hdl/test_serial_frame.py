"""The link's frames in plain Python: what is encoded is decoded, and what is damaged is not."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from hdl.link_frame import pack, size, unpack
from hdl.serial_frame import DELIMITER, DOWN_HEADER, LONGEST_BLOCK, decode, encode

CONTENTS = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.lists(st.sampled_from([0, 1, 255]), min_size=1, max_size=600).map(bytes),
    st.integers(LONGEST_BLOCK - 6, 2 * LONGEST_BLOCK + 6).map(lambda length: b"\x07" * length),
)


@given(CONTENTS)
def test_what_is_encoded_is_decoded(content):
    encoded = encode(content)
    assert encoded.count(DELIMITER) == 1
    assert encoded[-1] == DELIMITER
    assert len(encoded) <= len(content) + 4 + 1 + (len(content) + 4) // LONGEST_BLOCK + 1
    assert decode(encoded[:-1]) == content


@given(CONTENTS, st.data())
def test_a_wrong_or_a_lost_byte_is_found(content, data):
    encoded = encode(content)[:-1]
    at = data.draw(st.integers(0, len(encoded) - 1))
    other = data.draw(st.integers(1, 255).filter(lambda byte: byte != encoded[at]))
    assert decode(encoded[:at] + bytes([other]) + encoded[at + 1 :]) is None
    assert decode(encoded[:at]) is None


def test_nothing_is_no_frame():
    assert decode(b"") is None
    assert decode(b"\x05" + zlib.crc32(b"").to_bytes(4, "little").replace(b"\0", b"\1")) is None


def test_fields_lie_behind_one_another():
    values = {"kind": 1, "sequence": 2, "acknowledged": 3, "session": 0x07060504}
    assert pack(DOWN_HEADER, **values) == bytes(range(1, 8))
    assert unpack(DOWN_HEADER, bytes(range(1, 9))) == values
    assert size(DOWN_HEADER) == 7
