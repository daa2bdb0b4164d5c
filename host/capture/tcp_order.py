"""Puts TCP segments in order: one that was overtaken comes before those that overtook it (RFC 9293, section 3.4).

A card keeps nothing that it could put a late segment into; it skips it, and reports a hole. So what runs ahead waits
here. Every packet is passed on exactly once and as it is: segments that come again, whole or in parts, are the card's
to skip.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from host.capture.headers import TCP, TCP_PROTOCOL, number, transport_header
from host.capture.packets import Packets

WAIT_NS = 2_000_000_000
"""By the capture's clock, how long segments wait for a missing one: twice the least time-out before it is sent again
(RFC 6298, section 2.4)."""

ACKNOWLEDGED_WAIT_NS = 1_000_000
"""The same once the receiver has acknowledged the missing bytes: it has them, so the capture will not, unless it has
mixed up the two directions by as much."""

SEGMENTS_MAX = 4096
"""Segments of one direction that wait; one more, and the hole is given up."""

BYTES_MAX = 16 << 20
"""Bytes of all segments that wait; beyond, the hole is given up that the next one stands behind."""

SETS, WAYS = 1024, 8
"""Directions that are followed, by their addresses in sets of WAYS: of a full set the one that was quiet longest is
forgotten, and begins anew if it comes again."""

LAST, SOURCE, DESTINATION, PORTS, KNOWN, NEXT, HEAD, TAIL, HELD, DEADLINE = range(10)
"""Columns of the table. LAST: when it was used, 0: the row is free; NEXT: the sequence number that is due, where KNOWN;
HEAD and TAIL: rows of its first and last segment that wait, HELD of them; DEADLINE: when they are given up."""
COLUMNS = 10

USES, EARLIEST, HELD_SEGMENTS, HELD_BYTES, WAITED, HOLES = range(6)
"""Numbers of the whole: uses so far, the earliest deadline, segments that wait and their bytes; segments that have
waited for a missing one that came, and holes that were given up."""

NEVER = np.iinfo(np.int64).max
IPV4_BYTES_MAX = 65535
SYN, ACKNOWLEDGE = 0x02, 0x10


class Work(NamedTuple):
    """What the pass works on. By row: ``length`` and ``timestamp`` of the packet, ``sequence`` and ``size`` of its TCP payload
    (on the wire, whatever was captured), and which row is ``following`` in its list (-1: none). What was passed on:
    ``order`` (rows) and ``times``; ``passed`` has how many, and how many of them had waited."""

    table: np.ndarray
    numbers: np.ndarray
    length: np.ndarray
    timestamp: np.ndarray
    sequence: np.ndarray
    size: np.ndarray
    following: np.ndarray
    order: np.ndarray
    times: np.ndarray
    passed: np.ndarray


class TcpOrder:
    """Takes batches of packets and gives them back with the segments of each TCP direction in order.

    A segment that waited for a missing one has the time of that one, since nobody could read its bytes before; one
    whose hole was given up keeps its own time, which then steps back.
    """

    def __init__(self) -> None:
        self._table = np.zeros((SETS * WAYS, COLUMNS), np.int64)
        self._numbers = np.zeros(6, np.int64)
        self._numbers[EARLIEST] = NEVER
        self._held = Packets.of([])
        self._rows = (np.empty(0, np.int64),) * 3
        """Of what is held: sequence, size, following."""

    @property
    def waited(self) -> int:
        """Segments that waited until a missing one came."""
        return int(self._numbers[WAITED])

    @property
    def holes(self) -> int:
        """Holes that were given up."""
        return int(self._numbers[HOLES])

    def put(self, packets: Packets, kinds: np.ndarray) -> Packets:
        """The next batch, whose packets are of the given kinds (see headers.py)."""
        first = len(self._held)
        if not first and not (kinds == TCP).any():
            return packets
        both = Packets.joined([self._held, packets]) if first else packets
        work = self._work(both)
        put_in_order(both.data, both.offset, kinds, first, work)
        if not first and not self._numbers[HELD_SEGMENTS] and not work.passed[1]:
            return packets
        self._keep(both, work)
        return self._passed(both, work)

    def rest(self) -> Packets:
        """What still waits at the end."""
        work = self._work(self._held)
        give_up_late(work, NEVER)
        return self._passed(self._held, work)

    def _work(self, packets: Packets) -> Work:
        rows = len(packets)

        def column(before: np.ndarray) -> np.ndarray:
            return np.concatenate([before, np.empty(rows - len(before), np.int64)])

        sequence, size, following = map(column, self._rows)
        order, times = np.empty(rows, np.int64), np.empty(rows, np.uint64)
        return Work(
            self._table,
            self._numbers,
            packets.length,
            packets.timestamp,
            sequence,
            size,
            following,
            order,
            times,
            np.zeros(2, np.int64),
        )

    def _passed(self, packets: Packets, work: Work) -> Packets:
        count = int(work.passed[0])
        taken = packets.take(work.order[:count])
        return Packets(taken.data, taken.offset, taken.length, work.times[:count])

    def _keep(self, packets: Packets, work: Work) -> None:
        rows = np.empty(int(self._numbers[HELD_SEGMENTS]), np.int64)
        following = np.empty(len(rows), np.int64)
        if len(rows):
            renumber(work, rows, following)
        self._held = packets.take(rows).copied()
        self._rows = work.sequence[rows], work.size[rows], following


@njit(cache=True)
def put_in_order(data, offset, kinds, first, work):
    """Pass on packets from ``first`` on, those before it are held; ``kinds`` are of the others."""
    table, numbers, length, timestamp = work.table, work.numbers, work.length, work.timestamp
    for index in range(first, len(offset)):
        now = np.int64(timestamp[index])
        if now >= numbers[EARLIEST]:
            give_up_late(work, now)
        if kinds[index - first] != TCP:
            pass_on(work, index, timestamp[index])
            continue
        packet = data[offset[index] : offset[index] + np.uint64(length[index])]
        protocol, ip, transport, begin, _ = transport_header(packet, IPV4_BYTES_MAX)
        if protocol != TCP_PROTOCOL:
            pass_on(work, index, timestamp[index])
            continue
        source, destination = number(packet, ip + 12, 4), number(packet, ip + 16, 4)
        source_port, destination_port = number(packet, transport, 2), number(packet, transport + 2, 2)
        sequence, flags = number(packet, transport + 4, 4), packet[transport + 13]
        size = ip + number(packet, ip + 2, 2) - begin

        # Both directions are in one set.
        key = (source + destination) * 65599 + source_port + destination_port
        begin_of_set = np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)) % SETS * WAYS
        if flags & ACKNOWLEDGE and numbers[HELD_SEGMENTS]:
            other = find(table, begin_of_set, destination, source, destination_port << 16 | source_port)
            if other >= 0 and table[other, HELD]:
                ahead = difference(number(packet, transport + 8, 4), table[other, NEXT])
                if ahead > 0 and now + ACKNOWLEDGED_WAIT_NS < table[other, DEADLINE]:
                    table[other, DEADLINE] = now + ACKNOWLEDGED_WAIT_NS
                    numbers[EARLIEST] = min(numbers[EARLIEST], table[other, DEADLINE])
        ports = source_port << 16 | destination_port
        row = find(table, begin_of_set, source, destination, ports)
        if row < 0:
            row = make_room(work, begin_of_set)
            table[row, SOURCE], table[row, DESTINATION], table[row, PORTS] = source, destination, ports
        numbers[USES] += 1
        table[row, LAST] = numbers[USES]

        if flags & SYN:
            sequence = (sequence + 1) & 0xFFFFFFFF
            if table[row, KNOWN] and sequence != table[row, NEXT]:
                give_up(work, row)
            table[row, KNOWN], table[row, NEXT] = 1, sequence
        if size <= 0:
            pass_on(work, index, timestamp[index])
            continue
        if not table[row, KNOWN]:
            table[row, KNOWN], table[row, NEXT] = 1, sequence
        work.sequence[index], work.size[index] = sequence, size
        full = table[row, HELD] == SEGMENTS_MAX or numbers[HELD_BYTES] + length[index] > BYTES_MAX
        if difference(sequence, table[row, NEXT]) > 0 and full:
            give_up(work, row)
            full = numbers[HELD_BYTES] + length[index] > BYTES_MAX
        if difference(sequence, table[row, NEXT]) > 0 and not full:
            hold(work, row, index, now)
        else:
            numbers[HOLES] += difference(sequence, table[row, NEXT]) > 0
            pass_on(work, index, timestamp[index])
            reach(work, row, index)
            release(work, row, timestamp[index])


@njit(cache=True, inline="always")
def difference(sequence, other):
    """How far a sequence number is ahead of another one, modulo 2^32, signed."""
    return ((sequence - other + 0x80000000) & 0xFFFFFFFF) - 0x80000000


@njit(cache=True, inline="always")
def find(table, begin, source, destination, ports):
    """The row of a direction in the set that begins at ``begin``; -1: there is none."""
    for row in range(begin, begin + WAYS):
        if (
            table[row, LAST]
            and table[row, SOURCE] == source
            and table[row, DESTINATION] == destination
            and table[row, PORTS] == ports
        ):
            return row
    return -1


@njit(cache=True)
def make_room(work, begin):
    """A row of the set that is free, or that of the direction that was quiet longest, which is forgotten."""
    chosen = begin
    for row in range(begin, begin + WAYS):
        if work.table[row, LAST] < work.table[chosen, LAST]:
            chosen = row
    give_up(work, chosen)
    work.table[chosen, :] = 0
    return chosen


@njit(cache=True, inline="always")
def pass_on(work, index, time):
    """Append a packet to what goes out."""
    work.order[work.passed[0]] = index
    work.times[work.passed[0]] = time
    work.passed[0] += 1


@njit(cache=True, inline="always")
def reach(work, row, index):
    """The bytes of a segment are there: those behind it are due."""
    end = (work.sequence[index] + work.size[index]) & 0xFFFFFFFF
    if difference(end, work.table[row, NEXT]) > 0:
        work.table[row, NEXT] = end


@njit(cache=True)
def hold(work, row, index, now):
    """Put a segment into its direction's list, behind those that begin no later."""
    table, following = work.table, work.following
    due = table[row, NEXT]
    ahead = difference(work.sequence[index], due)
    following[index] = -1
    if not table[row, HELD]:
        table[row, HEAD] = table[row, TAIL] = index
        table[row, DEADLINE] = now + WAIT_NS
        work.numbers[EARLIEST] = min(work.numbers[EARLIEST], table[row, DEADLINE])
    elif difference(work.sequence[table[row, TAIL]], due) <= ahead:
        following[table[row, TAIL]] = index
        table[row, TAIL] = index
    else:
        before, at = np.int64(-1), table[row, HEAD]
        while difference(work.sequence[at], due) <= ahead:
            before, at = at, following[at]
        following[index] = at
        if before < 0:
            table[row, HEAD] = index
        else:
            following[before] = index
    table[row, HELD] += 1
    work.numbers[HELD_SEGMENTS] += 1
    work.numbers[HELD_BYTES] += work.length[index]


@njit(cache=True)
def pass_on_first(work, row, time):
    """Pass on the first segment that waits in a direction."""
    index = work.table[row, HEAD]
    pass_on(work, index, time)
    work.passed[1] += 1
    reach(work, row, index)
    work.table[row, HEAD] = work.following[index]
    work.table[row, HELD] -= 1
    work.numbers[HELD_SEGMENTS] -= 1
    work.numbers[HELD_BYTES] -= work.length[index]


@njit(cache=True)
def release(work, row, time):
    """Pass on what waited for the bytes that are there now."""
    table = work.table
    while table[row, HELD] and difference(work.sequence[table[row, HEAD]], table[row, NEXT]) <= 0:
        pass_on_first(work, row, time)
        # What still waits does so for another one.
        table[row, DEADLINE] = np.int64(time) + WAIT_NS
        work.numbers[WAITED] += 1


@njit(cache=True)
def give_up(work, row):
    """Pass on all that waits in a direction, its holes left open."""
    table = work.table
    while table[row, HELD]:
        index = table[row, HEAD]
        work.numbers[HOLES] += difference(work.sequence[index], table[row, NEXT]) > 0
        pass_on_first(work, row, work.timestamp[index])


@njit(cache=True)
def give_up_late(work, now):
    """Give up the holes whose time is over, and look which one is next."""
    earliest = NEVER
    for row in range(len(work.table)):
        if work.table[row, HELD]:
            if work.table[row, DEADLINE] <= now:
                give_up(work, row)
            else:
                earliest = min(earliest, work.table[row, DEADLINE])
    work.numbers[EARLIEST] = earliest


@njit(cache=True)
def renumber(work, rows, following):
    """List the rows that wait, a direction behind the other, and let the table point to their places in the list."""
    count = 0
    for row in range(len(work.table)):
        if not work.table[row, HELD]:
            continue
        index = work.table[row, HEAD]
        work.table[row, HEAD] = count
        while index >= 0:
            rows[count] = index
            index = work.following[index]
            following[count] = count + 1 if index >= 0 else -1
            count += 1
        work.table[row, TAIL] = count - 1
