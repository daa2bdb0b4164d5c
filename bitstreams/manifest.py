"""``bitstreams/manifest.json``: what was built, of what, and how well it met its clocks."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hdl.boards import BOARDS

FOLDER = Path(__file__).resolve().parent
MANIFEST = "manifest.json"


class ManifestError(ValueError):
    """A file is not the one that the manifest has, or is not there. The text is one line."""


@dataclass(frozen=True)
class Clock:
    """A clock of a design: what it reached as it was placed, and what it must."""

    mhz: float
    target_mhz: float

    def __str__(self) -> str:
        return f"{self.mhz:.1f} of {self.target_mhz:g}"


def source_of(source_hash: str) -> int:
    """What the register ``source`` says of a card that was built from this: the first 64 bits."""
    return int(source_hash[:16], 16)


def sha256(file: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A bitstream.

    Attributes:
        file: its name beside the manifest.
        interface: the way to the host: serial or eth.
        sources: a hash of the files that it comes from, comments and all.
        source_hash: of RTL, constraints and scripts: what it was built from; the card's register ``source`` has the first 64 bits.
        parsers: FIX with its width, SBE with its schema.
        tools: versions by name.
    """

    board: str
    file: str
    sha256: str
    interface: str
    parsers: tuple[str, ...]
    flows: int
    sources: str
    source_hash: str
    tools: dict[str, str]
    seed: int
    luts: int
    luts_available: int
    clocks: dict[str, Clock]

    @property
    def source(self) -> int:
        """What the card's register ``source`` says."""
        return source_of(self.source_hash)

    @property
    def luts_text(self) -> str:
        """LUTs used, of those that there are."""
        return f"{self.luts:,} of {self.luts_available:,}"


def load(folder: Path = FOLDER) -> list[Entry]:
    """The manifest's entries; none where there is no manifest. Raises :class:`ManifestError` where it is damaged."""
    path = folder / MANIFEST
    if not path.exists():
        return []
    try:
        return [
            Entry(
                **{
                    **each,
                    "parsers": tuple(each["parsers"]),
                    "clocks": {name: Clock(**clock) for name, clock in each["clocks"].items()},
                }
            )
            for each in json.loads(path.read_text())
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{path}: not a manifest of this version ({error}): make bitstreams") from None


def put(entry: Entry, folder: Path = FOLDER) -> None:
    """Put an entry into the manifest as it is now, in place of one for the same board."""
    save([each for each in load(folder) if each.board != entry.board] + [entry], folder)


def save(entries: Iterable[Entry], folder: Path = FOLDER) -> None:
    """Write the manifest, in the order of BOARDS."""
    places = {name: place for place, name in enumerate(BOARDS)}
    ordered = sorted(entries, key=lambda entry: places.get(entry.board, len(places)))
    text = json.dumps([asdict(entry) for entry in ordered], indent=2)
    (folder / MANIFEST).write_text(text + "\n")
