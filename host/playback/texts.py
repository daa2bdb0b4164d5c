"""Texts of FIX fields in raw messages, gathered; a file of its own, so that no change elsewhere compiles loops anew."""

from numba import njit

SOH = 1


@njit(cache=True)
def text_ends(payload, starts, lasts, null, ends):
    """``ends[i + 1]``: where text ``i`` ends when all stand one behind the other."""
    for number in range(starts.size):
        at = starts[number]
        if not null[number]:
            while at < lasts[number] and payload[at] != SOH:
                at += 1
        ends[number + 1] = ends[number] + (at - starts[number])


@njit(cache=True)
def gather_texts(payload, starts, ends, content):
    """Copy the texts one behind the other."""
    for number in range(starts.size):
        for place in range(ends[number], ends[number + 1]):
            content[place] = payload[starts[number] + place - ends[number]]
