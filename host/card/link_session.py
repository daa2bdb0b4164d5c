"""The host's side of a session with a board, over whichever link: numbered frames, registers, and a board that is silent."""

import secrets
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from hdl.link_frame import NUMBERED, Down, pack

SEQUENCE = 1 << 8
"""Numbered frames are counted modulo this."""

PACKET_COUNT = 1 << 32
"""``finished`` is counted modulo this."""

SESSIONS = 1 << 32

Numbered = tuple[int, int, bytes]
"""A frame to send: its number, kind and body."""


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
    """What did not go smoothly on a link, each with its ``text`` in the field's metadata."""

    damaged: int = field(default=0, metadata={"text": "damaged frames came"})
    missed: int = field(default=0, metadata={"text": "times a line was missing"})
    repeated: int = field(default=0, metadata={"text": "lines came again"})
    dropped: int = field(default=0, metadata={"text": "frames were dropped by the board"})
    resent: int = field(default=0, metadata={"text": "frames were sent again"})
    silences: int = field(default=0, metadata={"text": "times the board was silent"})

    def __str__(self) -> str:
        counted = [(getattr(self, each.name), each.metadata["text"]) for each in fields(self)]
        return ", ".join(f"{count:,} {text}" for count, text in counted if count) or "all went smoothly"


def signed(difference: int) -> int:
    """A difference of two sequence numbers, which count modulo 256: both are of the same window."""
    return (difference + SEQUENCE // 2) % SEQUENCE - SEQUENCE // 2


class LinkSession(ABC):
    """A session. Not thread-safe; the link is used only while a method runs.

    ``register_body`` are the fields of WRITE and READ, ``window`` is how many numbered frames may be on their way. A board that says nothing for
    ``silence_s`` is asked again, and given up after ``answer_s``.

    Attributes:
        counts: what was damaged, resent, and so on.
        finished: packets that the board is done with and all of whose lines are here.
    """

    def __init__(
        self,
        counts: LinkCounts,
        register_body: Mapping[str, int],
        window: int,
        silence_s: float,
        answer_s: float,
    ) -> None:
        self.counts = counts
        self.finished = 0
        self._register_body = register_body
        self._window = window
        self._silence_s = silence_s
        self._answer_s = answer_s
        self._session = secrets.randbelow(SESSIONS - 1) + 1
        self._is_open = False
        # Frames that were sent, and those of them that are not acknowledged.
        self._sent = 0
        self._waiting: deque[Numbered] = deque()
        self._resent_from = -1
        # Lines that are here.
        self._lines = 0
        self._status = Status()
        self._reads = 0
        self._heard = self._nudged = time.monotonic()

    @property
    def has_room(self) -> bool:
        """Whether a numbered frame may be sent."""
        return len(self._waiting) < self._window

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
        return self._lines, self.finished, self._sent - len(self._waiting)

    def send(self, kind: Down, body: bytes) -> None:
        """Send a numbered frame; there must be room for it."""
        assert kind in NUMBERED
        assert self.has_room
        self._waiting.append((self._sent, kind, body))
        self._sent += 1
        self._transmit([self._waiting[-1]])

    def request(self, kind: Down, address: int = 0, value: int = 0) -> None:
        """Send a numbered frame with a register, as soon as there is room for it; it takes effect when all that was sent is taken."""
        while not self.has_room:
            self.exchange()
        self.send(kind, pack(self._register_body, address=address, value=value))

    def finish(self) -> None:
        """Wait until all that was sent is taken."""
        while self._waiting:
            self.exchange()

    def read(self, address: int) -> int:
        """A register's value."""
        self._reads += 1
        self.request(Down.READ, address)
        while self._status.reads != self._reads % SEQUENCE:
            self.exchange()
        return self._status.value

    def write(self, address: int, value: int) -> None:
        """Write a register."""
        self.request(Down.WRITE, address, value)

    def exchange(self) -> None:
        """Take what has come, wait a moment for it if there is nothing, and see to what is missing. For callers who wait for the board
        to do something."""
        self._receive()
        now = time.monotonic()
        if now - max(self._heard, self._nudged) > self._silence_s:
            if now - self._heard > self._answer_s:
                raise LinkError(f"the board does not answer any more ({self.counts})")
            self.counts.silences += 1
            self._nudge()

    def acknowledge(self) -> None:  # noqa: B027
        """Say which lines are here, where the board wants to know."""

    def wake(self) -> None:
        """Before waiting for the board: its silence until now says nothing, as it was not asked."""
        self._heard = self._nudged = time.monotonic()

    @abstractmethod
    def close(self) -> None:
        """Give the device back, without what was not sent yet: nobody waits for it any more."""

    @abstractmethod
    def _receive(self) -> None:
        """Take what has come; wait a moment if there is nothing."""

    @abstractmethod
    def _transmit(self, frames: Sequence[Numbered]) -> None:
        """Send frames, one behind the other."""

    @abstractmethod
    def _open_body(self) -> bytes:
        """The body of OPEN."""

    @abstractmethod
    def _no_answer(self) -> str:
        """What to say where nothing answers an OPEN."""

    def _begin(self) -> None:
        """Begin the session: the board forgets any other."""
        until = time.monotonic() + self._answer_s
        asked = 0.0
        while not self._is_open:
            now = time.monotonic()
            if now > until:
                raise LinkError(self._no_answer())
            if now - asked > self._silence_s:
                asked = now
                self._transmit([(0, Down.OPEN, self._open_body())])
            self._receive()

    def _nudge(self) -> None:
        """Ask the board what it has, and send again what it may not have."""
        self._nudged = time.monotonic()
        self._transmit([(0, Down.POLL, b"")])
        self._resend()

    def _resend(self) -> None:
        if self._waiting:
            self._resent_from = self._waiting[0][0]
            self.counts.resent += len(self._waiting)
            self._transmit(self._waiting)

    def _heard_of(self, session: int) -> bool:
        """Whether a frame from the board belongs to this session; raises LinkError where it has begun another one."""
        if session != self._session:
            if self._is_open:
                raise LinkError(
                    f"the board was restarted, or opened by another program, after {self.finished:,} packets: what it had is lost, open it anew"
                )
            return False
        self._is_open = True
        self._heard = time.monotonic()
        return True

    def _take_acknowledged(self, acknowledged: int) -> None:
        count = self._sent + signed(acknowledged - self._sent)
        while self._waiting and self._waiting[0][0] < count:
            self._waiting.popleft()

    def _take_status(self, status: Status) -> None:
        dropped = (status.dropped - self._status.dropped) % SEQUENCE
        self._status = status
        self.counts.dropped += dropped
        if dropped and self._waiting and self._resent_from != self._waiting[0][0]:
            # Once for each frame: those behind it are on their way still.
            self._resend()
