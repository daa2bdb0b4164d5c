"""A machine to look at, and what was found."""

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class State(enum.Enum):
    """Whether what was found is as it should be."""

    GOOD = "good"
    COSTS = "costs"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """One thing that latency depends on.

    Attributes:
        name: what was looked at.
        value: how it is now.
        state: whether that is good.
        cost: what it costs where it is not good.
        mend: the command that mends it, or what is to be set; empty where there is nothing to mend or only the machine's owner can.
    """

    name: str
    value: str
    state: State
    cost: str = ""
    mend: str = ""

    def named(self) -> dict[str, str]:
        """The same for JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "state": self.state.value,
            "cost": self.cost,
            "mend": self.mend,
        }


class Machine:
    """The files in which Linux says how it is set: ``/proc`` and ``/sys`` below ``root``."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def read(self, path: str) -> str | None:
        """A file's text without blanks around it; None where it is not there or may not be read."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """A file's number; None where it has none."""
        text = self.read(path)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None

    def names(self, folder: str, pattern: str = "*") -> list[str]:
        """Names in a folder, sorted."""
        try:
            return sorted(each.name for each in (self.root / folder).glob(pattern))
        except OSError:
            return []

    def processors(self) -> list[int]:
        """The numbers of the processors that are on."""
        online = self.read("sys/devices/system/cpu/online")
        return sorted(cpu_list(online)) if online else []

    def chosen(self, path: str) -> str | None:
        """The choice in brackets of a file such as ``always [madvise] never``."""
        text = self.read(path)
        if text is None or "[" not in text:
            return text
        return text.partition("[")[2].partition("]")[0]


def cpu_list(text: str) -> set[int]:
    """The numbers of a list such as ``0-3,8`` (Linux, "cpulist"); what is no number is passed over."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdigit() and (last or first).isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return found


def cpu_mask(text: str) -> set[int]:
    """The numbers of a mask such as ``ff,00000001`` (Linux, "cpumask")."""
    digits = text.replace(",", "").strip()
    try:
        bits = int(digits, 16)
    except ValueError:
        return set()
    return {number for number in range(bits.bit_length()) if bits >> number & 1}


def cpu_text(numbers: Iterable[int]) -> str:
    """The same as a list: ``0-3,8``."""
    parts: list[str] = []
    run: list[int] = []
    for number in [*sorted(numbers), None]:
        if run and number != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        if number is not None:
            run.append(number)
    return ",".join(parts)
