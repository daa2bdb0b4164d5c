"""The CRC-64 that makes an instrument's number of its symbol, several bytes a cycle (``hdl.frame.crc64``)."""

from amaranth.hdl import Cat, Const, Module, Signal

from hdl.select import select


def crc64_append(m: Module, name: str, state, text, count, most: int):
    """CRC-64 of ``state``'s text with ``count`` (0 to ``most``) more bytes, right-justified in ``text``.

    x^64 = x^4 + x^3 + x + 1, so what is shifted out of 64 bits comes back at four places, and the
    four bits which that shifts out once more: only eight bytes do.
    """
    shifted = Signal(128, name=f"{name}_shifted")
    m.d.comb += shifted.eq(select([state << (8 * n) for n in range(most + 1)], count, 128))
    over = shifted[64:]
    once = Cat(over, Const(0, 4)) ^ (over << 1)[:68] ^ (over << 3)[:68] ^ (over << 4)[:68]
    again = ((state >> 63) ^ (state >> 61) ^ (state >> 60))[:4] & (count == 8).replicate(4)
    twice = again ^ (again << 1) ^ (again << 3) ^ (again << 4)
    appended = Signal(64, name=f"{name}_appended")
    m.d.comb += appended.eq(shifted[:64] ^ text ^ once[:64] ^ twice)
    return appended
