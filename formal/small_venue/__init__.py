"""A venue for proofs: a schema of two messages, one with a group, and a profile for either way in which a message's end is told."""

from pathlib import Path

from hdl.sbe_framing import End
from hdl.sbe_profile import load_profile
from hdl.sbe_schema import load_schema
from hdl.sbe_venue import Venue

FOLDER = Path(__file__).parent


def small_venue(end: End) -> Venue:
    """The schema, framed so that ``end`` tells a message's end."""
    return Venue.of(load_schema(FOLDER / "schema.xml"), load_profile(FOLDER / f"{end.value}.toml"))
