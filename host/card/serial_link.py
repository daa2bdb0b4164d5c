"""The host's end of the serial link: numbered frames both ways over a cable that loses some (docs/serial.md)."""

import contextlib
import errno
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import serial

from hdl.link_frame import Down, Up, pack, size, unpack
from hdl.serial_frame import (
    CHUNK_BYTES,
    DELIMITER,
    DOWN_HEADER,
    FRAME_WINDOW,
    LINE_BODY,
    LINE_WINDOW,
    PACKET_CREDIT,
    REGISTER_BODY,
    STATUS_BODY,
    UP_HEADER,
    decode,
    encode,
)
from host.card.link_session import (
    PACKET_COUNT,
    SEQUENCE,
    LinkCounts,
    LinkError,
    LinkSession,
    Numbered,
    Status,
    signed,
)

READ_S = 0.01
"""How long a read waits for the first byte."""

SILENCE_S = 0.25
"""A board that says nothing for so long, and for as long as the longest frames take, is asked again: USB bridges and a busy
machine keep bytes back for less."""

ANSWER_S = 4.0
"""A board that says nothing for so long, and for as long as a window takes, asked again and again, is not there."""

BACK_S = 10.0
"""How long a device that went away is waited for: a cable is plugged in again, a board is enumerated."""

LOOK_S = 0.05
"""How often it is looked for."""

WRITE_S = 2.0
"""A driver that takes no bytes for so long, and for as long as two windows take, is treated as a device that went away."""

ACKNOWLEDGE_LINES = LINE_WINDOW // 4
"""The board hears of lines at least so often, so that its window does not fill."""

MOST_ENCODED = len(encode(bytes(size(UP_HEADER) + size(LINE_BODY))))
"""Bytes of the longest frame from the board; more without a delimiter are noise."""

WINDOW_BYTES = FRAME_WINDOW * len(encode(bytes(size(DOWN_HEADER) + CHUNK_BYTES)))
"""Bytes of as many frames as may be on their way."""

UART_BITS = 10
"""Bits of a byte on the line."""

BYTE_COUNT = 1 << UP_HEADER["taken"]

GONE = (OSError, termios.error)
"""What a device raises that is not there any more; pyserial's own exceptions are OSErrors."""

FLUSH = bytes([DELIMITER])
"""Ends what is left of a frame before it."""


@dataclass
class SerialCounts(LinkCounts):
    """What did not go smoothly; nothing of it is lost to the caller."""

    reconnects: int = field(default=0, metadata={"text": "times the device went away"})


def _not_expected(line: int, _data: bytes) -> None:
    raise LinkError(f"the board wrote line {line} before it was given anything")


class SerialLink(LinkSession):
    """A session with a board.

    Raises :class:`LinkError` where there is no device, no answer, or another board than the one that the session began with.

    Attributes:
        write_line: called with the number and the bytes of each line, once, in order. To be set before packets are sent.
        window_s: how long a full window of frames takes on the line, in seconds.
    """

    counts: SerialCounts

    def __init__(self, path: str, baud: int) -> None:
        self.path = path
        self.baud = baud
        self.window_s = UART_BITS * WINDOW_BYTES / baud
        silence_s = SILENCE_S + 4 * UART_BITS * MOST_ENCODED / baud
        super().__init__(SerialCounts(), REGISTER_BODY, FRAME_WINDOW, silence_s, ANSWER_S + self.window_s)
        self.write_line: Callable[[int, bytes], None] = _not_expected
        self._received = b""
        # Bytes of packets; lines of which the board was told, and the one that it was asked for again.
        self._stream_sent = self._stream_taken = 0
        self._lines_told = 0
        self._asked_for = -1
        self._was_away = False
        self._port = self._connect()
        self._begin()

    @property
    def credit(self) -> int:
        """Bytes of packets that the board has room for."""
        return PACKET_CREDIT - (self._stream_sent - self._stream_taken)

    @property
    def progress(self) -> tuple[int, ...]:
        """Changes as long as the board does something."""
        return *super().progress, self._stream_taken

    def send_packets(self, body: bytes) -> None:
        """Send bytes of packets; there must be room and credit for them."""
        assert len(body) <= self.credit
        self._stream_sent += len(body)
        self.send(Down.PACKETS, body)

    def exchange(self) -> None:
        """See :meth:`LinkSession.exchange`."""
        super().exchange()
        if self._lines - self._lines_told >= ACKNOWLEDGE_LINES:
            self.acknowledge()
        if self._was_away:
            self._was_away = False
            self._nudge()

    def acknowledge(self) -> None:
        """Say which lines are here."""
        if self._lines_told < self._lines:
            self._transmit([(0, Down.ACKNOWLEDGE, b"")])

    def close(self) -> None:
        """See :meth:`LinkSession.close`."""
        with contextlib.suppress(*GONE):
            self._port.reset_output_buffer()
        self._port.close()

    # Frames down.

    def _transmit(self, frames: Sequence[Numbered]) -> None:
        self._write(b"".join(self._frame(*each) for each in frames))

    def _frame(self, number: int, kind: int, body: bytes) -> bytes:
        self._lines_told = self._lines
        header = pack(
            DOWN_HEADER,
            kind=kind,
            sequence=number % SEQUENCE,
            acknowledged=self._lines % SEQUENCE,
            session=self._session,
        )
        # Whoever is asked to answer may have half a frame of before.
        return (FLUSH if kind in (Down.OPEN, Down.POLL) else b"") + encode(header + body)

    def _open_body(self) -> bytes:
        return b""

    def _no_answer(self) -> str:
        found = "only damaged frames come" if self.counts.damaged else "no answer"
        return f"{found} at {self.baud:,} baud: is it the board's port, is the card flashed, is the baud rate right?"

    # Frames up.

    def _receive(self) -> None:
        try:
            received = self._port.read(max(1, self._port.in_waiting))
        except GONE:
            self._reconnect()
            return
        *whole, self._received = (self._received + received).split(FLUSH)
        for encoded in whole:
            if encoded:
                self._take(decode(encoded))
        if len(self._received) > MOST_ENCODED:
            self._received = b""
            self.counts.damaged += 1

    def _take(self, content: bytes | None) -> None:
        if content is None or len(content) < size(UP_HEADER):
            self.counts.damaged += 1
            return
        header, body = unpack(UP_HEADER, content), content[size(UP_HEADER) :]
        if not self._heard_of(header["session"]):
            return
        self._take_acknowledged(header["acknowledged"])
        self._stream_taken += (header["taken"] - self._stream_taken) % BYTE_COUNT
        if header["kind"] == Up.LINE:
            self._take_line(header["sequence"], body)
        else:
            lines = self._lines + signed(header["sequence"] - self._lines)
            self._take_status(Status(lines, header["acknowledged"], **unpack(STATUS_BODY, body)))
        if self._lines >= self._status.lines:
            self.finished += (self._status.finished - self.finished) % PACKET_COUNT

    def _take_line(self, sequence: int, body: bytes) -> None:
        ahead = signed(sequence - self._lines)
        if ahead == 0:
            line = int.from_bytes(body[: LINE_BODY["line"] // 8], "little")
            self.write_line(line, body[LINE_BODY["line"] // 8 :])
            self._lines += 1
        elif ahead < 0:
            self.counts.repeated += 1
        elif self._asked_for != self._lines:
            # Once for each line: those behind it are on their way still.
            self.counts.missed += 1
            self._asked_for = self._lines
            self._transmit([(0, Down.POLL, b"")])

    # The device.

    def _connect(self) -> serial.Serial:
        try:
            patience = WRITE_S + 2 * self.window_s
            port = serial.Serial(self.path, self.baud, timeout=READ_S, write_timeout=patience, exclusive=True)
        except (*GONE, ValueError) as error:
            number = getattr(error, "errno", None)
            if number == errno.ENOENT:
                reason = "there is no such device: is the board plugged in?"
            elif number == errno.EACCES:
                reason = "no permission: add yourself to the device's group (often dialout), then log in anew"
            elif number in (errno.EBUSY, errno.EAGAIN):
                reason = "another program has it open"
            else:
                reason = f"not usable at {self.baud:,} baud: {error}"
            raise LinkError(reason) from None
        # FTDI's bridges else keep a few bytes back for 16 ms; who is none of them refuses.
        with contextlib.suppress(*GONE, ValueError, AttributeError):
            port.set_low_latency_mode(True)
        return port

    def _write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except GONE:
            self._reconnect()

    def _reconnect(self) -> None:
        """Wait until the device is there again. What was under way is lost; it is sent again with the next :meth:`exchange`."""
        self.counts.reconnects += 1
        with contextlib.suppress(*GONE):
            self._port.close()
        until = time.monotonic() + BACK_S
        while True:
            try:
                self._port = self._connect()
                break
            except LinkError as error:
                if time.monotonic() > until:
                    raise LinkError(f"the device went away and was not back in {BACK_S:.0f} s: {error}") from None
                time.sleep(LOOK_S)
        self._received = b""
        self._heard = time.monotonic()
        self._was_away = True
