"""The CRC-64 that makes an instrument's number of its symbol, several bytes a cycle (``hdl.frame.crc64``)."""

from amaranth.hdl import Cat, Const, Module, Signal

from hdl.select import is_in, select


def crc64_append(m: Module, name: str, state, text, count, most: int):
    """CRC-64 of ``state``'s text with ``count`` (0 to ``most``, at most 8) more bytes, right-justified in ``text``.

    What shifting moves out of the 64 bits and what stays in them are the ``state`` turned by so many bytes. x^64 = x^4 + x^3 + x + 1,
    so what moved out comes back at four places, one of which is where turning has it, and the four bits which that
    moves out once more: only eight bytes do.
    """
    bits = len(state)
    turned, moved_out = Signal(bits, name=f"{name}_turned"), Signal(bits, name=f"{name}_moved_out")
    turns = [state.rotate_left(8 * n) for n in range(min(most + 1, 8))]
    m.d.comb += [
        turned.eq(select(turns, count[: (len(turns) - 1).bit_length()], bits)),
        moved_out.eq(
            turned & Cat(is_in(count, range(byte + 1, most + 1)).replicate(8) for byte in range(most)),
        ),
    ]
    again = (
        ((state >> 63) ^ (state >> 61) ^ (state >> 60))[:4] & (count == 8).replicate(4) if most == 8 else Const(0, 4)
    )
    appended = Signal(bits, name=f"{name}_appended")
    m.d.comb += appended.eq(
        turned ^ text
        ^ (moved_out << 1) ^ (moved_out << 3) ^ (moved_out << 4)
        ^ again ^ (again << 1) ^ (again << 3) ^ (again << 4)
    )  # fmt: skip
    return appended
