"""The host's end of the serial link: numbered frames both ways over a cable that loses some (docs/serial.md)."""

import contextlib
import errno
import secrets
import termios
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import serial

from hdl.serial_frame import (
    CHUNK_BYTES,
    DELIMITER,
    DOWN_HEADER,
    FRAME_WINDOW,
    LINE_BODY,
    LINE_WINDOW,
    NUMBERED,
    PACKET_CREDIT,
    REGISTER_BODY,
    STATUS_BODY,
    UP_HEADER,
    Down,
    Up,
    decode,
    encode,
    pack,
    size,
    unpack,
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

SEQUENCE = 1 << 8
BYTE_COUNT = 1 << UP_HEADER["taken"]
PACKET_COUNT = 1 << STATUS_BODY["finished"]

GONE = (OSError, termios.error)
"""What a device raises that is not there any more; pyserial's own exceptions are OSErrors."""

FLUSH = bytes([DELIMITER])
"""Ends what is left of a frame before it."""


class LinkError(Exception):
    """The link cannot be used; one line that says why."""


class Status(NamedTuple):
    """What the board said last. ``finished`` and ``stalled`` hold once ``lines`` are here."""

    lines: int = 0
    acknowledged: int = 0
    finished: int = 0
    stalled: int = 0
    dropped: int = 0
    reads: int = 0
    value: int = 0


@dataclass
class LinkCounts:
    """What did not go smoothly; nothing of it is lost to the caller."""

    damaged: int = field(default=0, metadata={"text": "damaged frames came"})
    missed: int = field(default=0, metadata={"text": "times a line was missing"})
    repeated: int = field(default=0, metadata={"text": "lines came again"})
    dropped: int = field(default=0, metadata={"text": "frames were dropped by the board"})
    resent: int = field(default=0, metadata={"text": "frames were sent again"})
    silences: int = field(default=0, metadata={"text": "times the board was silent"})
    reconnects: int = field(default=0, metadata={"text": "times the device went away"})

    def __str__(self) -> str:
        counted = [(getattr(self, each.name), each.metadata["text"]) for each in fields(self)]
        return ", ".join(f"{count:,} {text}" for count, text in counted if count) or "nothing was resent"


def _not_expected(line: int, _data: bytes) -> None:
    raise LinkError(f"the board wrote line {line} before it was given anything")


def signed(difference: int) -> int:
    """A difference of two sequence numbers, which count modulo 256: both are of the same window."""
    return (difference + SEQUENCE // 2) % SEQUENCE - SEQUENCE // 2


class SerialLink:
    """A session with a board.

    Not thread-safe; bytes are read and written only while a method runs. Raises :class:`LinkError` where there is no device, no
    answer, or another board than the one that the session began with.

    Attributes:
        write_line: called with the number and the bytes of each line, once, in order. To be set before packets are sent.
        counts: what was damaged, resent, and so on.
        finished: packets that the board is done with and all of whose lines are here.
        window_s: how long a full window of frames takes on the line, in seconds.
    """

    def __init__(self, path: str, baud: int) -> None:
        self.path = path
        self.baud = baud
        self.counts = LinkCounts()
        self.finished = 0
        self.write_line: Callable[[int, bytes], None] = _not_expected
        self._received = b""
        self._session = secrets.randbelow(2 ** DOWN_HEADER["session"] - 1) + 1
        self._is_open = False
        # Down: frames that were sent, and those of them that are not acknowledged; bytes of packets.
        self._sent = 0
        self._waiting: deque[tuple[int, int, bytes]] = deque()
        self._resent_from = -1
        self._stream_sent = self._stream_taken = 0
        # Up: lines that are here, and of which the board was told.
        self._lines = 0
        self._lines_told = 0
        self._asked_for = -1
        self._status = Status()
        self._reads = 0
        self._heard = self._nudged = time.monotonic()
        self._was_away = False
        self.window_s = UART_BITS * WINDOW_BYTES / baud
        self._silence = SILENCE_S + 4 * UART_BITS * MOST_ENCODED / baud
        self._port = self._connect()
        self._open()

    # What the card does with it.

    @property
    def has_room(self) -> bool:
        """Whether a numbered frame may be sent."""
        return len(self._waiting) < FRAME_WINDOW

    @property
    def credit(self) -> int:
        """Bytes of packets that the board has room for."""
        return PACKET_CREDIT - (self._stream_sent - self._stream_taken)

    @property
    def is_stalled(self) -> bool:
        """Whether the card waits for credit: with all that was sent taken, and all that it wrote here."""
        status = self._status
        return bool(
            status.stalled
            and not self._waiting
            and status.acknowledged == self._sent % SEQUENCE
            and self._lines >= status.lines
        )

    @property
    def progress(self) -> tuple[int, ...]:
        """Changes as long as the board does something."""
        return self._lines, self._stream_taken, self.finished, self._sent - len(self._waiting)

    def send(self, kind: Down, body: bytes) -> None:
        """Send a numbered frame; there must be room for it."""
        assert kind in NUMBERED
        assert self.has_room
        if kind is Down.PACKETS:
            assert len(body) <= self.credit
            self._stream_sent += len(body)
        self._waiting.append((self._sent, kind, body))
        self._sent += 1
        self._transmit(self._frame(*self._waiting[-1]))

    def read(self, address: int) -> int:
        """A register's value."""
        self._reads += 1
        while not self.has_room:
            self.exchange()
        self.send(Down.READ, pack(REGISTER_BODY, address=address))
        while self._status.reads != self._reads % SEQUENCE:
            self.exchange()
        return self._status.value

    def write(self, address: int, value: int) -> None:
        """Write a register; it is written when all that was sent is taken."""
        while not self.has_room:
            self.exchange()
        self.send(Down.WRITE, pack(REGISTER_BODY, address=address, value=value))

    def exchange(self) -> None:
        """Take what has come, wait a moment for it if there is nothing, and see to what is missing. For callers who wait for the board
        to do something."""
        self._receive()
        if self._lines - self._lines_told >= ACKNOWLEDGE_LINES:
            self.acknowledge()
        if self._was_away:
            self._was_away = False
            self._nudge()
        now = time.monotonic()
        if now - max(self._heard, self._nudged) > self._silence:
            if now - self._heard > ANSWER_S + self.window_s:
                raise LinkError(f"the board does not answer any more ({self.counts})")
            self.counts.silences += 1
            self._nudge()

    def acknowledge(self) -> None:
        """Say which lines are here."""
        if self._lines_told < self._lines:
            self._transmit(self._frame(0, Down.ACKNOWLEDGE))

    def wake(self) -> None:
        """Before waiting for the board: its silence until now says nothing, as it was not asked."""
        self._heard = self._nudged = time.monotonic()

    def close(self) -> None:
        """Give the device back, without what was not sent yet: nobody waits for it any more."""
        with contextlib.suppress(*GONE):
            self._port.reset_output_buffer()
        self._port.close()

    # Frames down.

    def _frame(self, number: int, kind: int, body: bytes = b"") -> bytes:
        self._lines_told = self._lines
        header = pack(
            DOWN_HEADER,
            kind=kind,
            sequence=number % SEQUENCE,
            acknowledged=self._lines % SEQUENCE,
            session=self._session,
        )
        return encode(header + body)

    def _nudge(self) -> None:
        """Ask the board what it has, from the first line that is missing on, and send again what it may not have."""
        self._nudged = time.monotonic()
        self._transmit(FLUSH + self._frame(0, Down.POLL))
        self._resend()

    def _resend(self) -> None:
        if self._waiting:
            self._resent_from = self._waiting[0][0]
            self.counts.resent += len(self._waiting)
            self._transmit(b"".join(self._frame(*each) for each in self._waiting))

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
        if header["session"] != self._session:
            if self._is_open:
                raise LinkError(
                    f"the board was restarted, or opened by another program, after {self.finished:,} packets: what it had is lost, open it anew"
                )
            return
        self._is_open = True
        self._heard = time.monotonic()
        self._take_acknowledged(self._sent + signed(header["acknowledged"] - self._sent))
        self._stream_taken += (header["taken"] - self._stream_taken) % BYTE_COUNT
        if header["kind"] == Up.LINE:
            self._take_line(header["sequence"], body)
        else:
            lines = self._lines + signed(header["sequence"] - self._lines)
            self._take_status(Status(lines, header["acknowledged"], **unpack(STATUS_BODY, body)))
        if self._lines >= self._status.lines:
            self.finished += (self._status.finished - self.finished) % PACKET_COUNT

    def _take_acknowledged(self, count: int) -> None:
        while self._waiting and self._waiting[0][0] < count:
            self._waiting.popleft()

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
            self._transmit(self._frame(0, Down.POLL))

    def _take_status(self, status: Status) -> None:
        dropped = (status.dropped - self._status.dropped) % SEQUENCE
        self._status = status
        self.counts.dropped += dropped
        if dropped and self._waiting and self._resent_from != self._waiting[0][0]:
            # Once for each frame, as above.
            self._resend()

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

    def _transmit(self, data: bytes) -> None:
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

    def _open(self) -> None:
        """Begin the session: the board forgets any other."""
        until = time.monotonic() + ANSWER_S + self.window_s
        asked = 0.0
        while not self._is_open:
            now = time.monotonic()
            if now > until:
                found = "only damaged frames come" if self.counts.damaged else "no answer"
                raise LinkError(
                    f"{found} at {self.baud:,} baud: is it the board's port, is the card flashed, is the baud rate right?"
                )
            if now - asked > self._silence:
                asked = now
                self._transmit(FLUSH + self._frame(0, Down.OPEN))
            self._receive()
