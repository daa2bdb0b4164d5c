"""Undoes the compression of a capture while it is read: gzip, bzip2, xz, zstd and lz4, told by their first bytes."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import lz4.frame
from backports import zstd

DECODER_BYTES_MAX = 128 << 20
"""Most memory that a decoder may ask for: what zstd grants by itself, and twice what 'xz -9' needs."""

MAGIC_BYTES = 6
"""The longest magic number."""


class Damaged(Exception):
    """Compressed data that is none, with its library's reason."""


class Decoder(Protocol):
    """One member (gzip), stream (xz, bzip2) or frame (zstd, lz4), as the standard library's decompressors have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes | None: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """At most ``max_length`` bytes of what ``data`` and all that came before gives."""


class _Gzip:
    """A gzip member (RFC 1952), its checksum verified."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not (self._inner.unconsumed_tail or self._full)

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        decoded = self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))
        # Input may be used up and output still wait within zlib.
        self._full = len(decoded) == max_length
        return decoded


@dataclass(frozen=True)
class Compression:
    """A kind of compression: its ``name``, the command that undoes it, and what decodes one member."""

    name: str
    command: str
    decoder: Callable[[], Decoder]


_ZSTD = Compression("zstd", "zstd -dc", zstd.ZstdDecompressor)
_MAGICS = {
    b"\x1f\x8b": Compression("gzip", "gzip -dc", _Gzip),
    b"\x28\xb5\x2f\xfd": _ZSTD,
    b"\xfd7zXZ\x00": Compression(
        "xz", "xz -dc", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DECODER_BYTES_MAX)
    ),
    b"BZh": Compression("bzip2", "bzip2 -dc", bz2.BZ2Decompressor),
    b"\x04\x22\x4d\x18": Compression("lz4", "lz4 -dc", lz4.frame.LZ4FrameDecompressor),
    # Frames that are skipped (RFC 8878, section 3.1.2) may stand before, between and behind the others.
    **{bytes([0x50 + n]) + b"\x2a\x4d\x18": _ZSTD for n in range(16)},
}


def compression_of(head: bytes) -> Compression | None:
    """What data that begins with ``head`` (MAGIC_BYTES, or all there is) is compressed with; None: not at all."""
    return next((kind for magic, kind in _MAGICS.items() if head.startswith(magic)), None)


class Decompressed:
    """The bytes of members that stand one behind the other, as ``cat a.gz b.gz`` or pigz make them.

    ``take()`` gives the next compressed bytes, b"" at their end.
    """

    def __init__(self, kind: Compression, take: Callable[[], bytes]) -> None:
        self._kind = kind
        self._take = take
        self._decoder = kind.decoder()
        self._rest = b""
        self._ended = False
        self.cut = False
        """Whether the compressed data ended within a member."""

    def read_into(self, view: memoryview) -> int:
        """Fill ``view``; fewer bytes than it has only at the end. Raises Damaged."""
        filled = 0
        while filled < len(view) and not self._ended:
            if self._decoder.eof:
                self._next_member()
                continue
            data = b""
            if self._decoder.needs_input:
                data, self._rest = self._rest or self._take(), b""
            if not data and self._decoder.needs_input:
                self.cut = self._ended = True
                break
            filled += self._decode(data, view[filled:])
        return filled

    def _decode(self, data: bytes, view: memoryview) -> int:
        try:
            decoded = self._decoder.decompress(data, len(view))
        # lz4's decoder raises RuntimeError, bzip2's OSError.
        except (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, RuntimeError, EOFError) as error:
            raise Damaged(str(error)) from None
        view[: len(decoded)] = decoded
        return len(decoded)

    def _next_member(self) -> None:
        # lz4's is None where there is nothing.
        rest = self._decoder.unused_data or b""
        while len(rest) < MAGIC_BYTES and (more := self._take()):
            rest += more
        if compression_of(rest[:MAGIC_BYTES]) is self._kind:
            self._decoder, self._rest = self._kind.decoder(), rest
        elif rest.strip(b"\0"):
            raise Damaged("something else stands behind its end")
        else:
            # Zeros pad xz streams, and whatever was on a tape. What follows them is not looked at.
            self._ended = True
