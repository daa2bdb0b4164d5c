"""A venue's SBE as decoders need it: its schema, the profile that is for it, and the plan that follows from both."""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from hdl.sbe_plan import FramePlan, plan_frames
from hdl.sbe_profile import Profile, find_profile
from hdl.sbe_schema import Schema, load_schema


@dataclass(frozen=True)
class Venue:
    """Schema, profile and the frame plans of all messages."""

    schema: Schema
    profile: Profile
    plans: tuple[FramePlan, ...]

    @classmethod
    def of(cls, schema: Schema, profile: Profile) -> "Venue":
        """Raises SchemaError where the two do not fit together, as :func:`hdl.sbe_plan.plan_frames` does."""
        return cls(schema, profile, plan_frames(schema, profile))

    def only(self, *templates: int) -> "Venue":
        """The venue as if its schema had no other templates than those."""
        plans = tuple(plan for plan in self.plans if plan.message.id in templates)
        return replace(self, schema=replace(self.schema, messages=tuple(plan.message for plan in plans)), plans=plans)


def load_venue(schema: Path | str, profile: str | None = None) -> Venue:
    """Read a schema, and the profile that is named (or that is for its package).

    Raises SchemaError and ProfileError for what is wrong, OSError where a file cannot be read.
    """
    known = load_schema(schema)
    return Venue.of(known, find_profile(known, profile))


def venue_code(venue: Venue | None) -> int:
    """32 bits that tell a schema with its profile from others; 0 is none."""
    if venue is None:
        return 0
    # What schema and profile say counts, not where they stand.
    said = repr((replace(venue.schema, path=""), replace(venue.profile, path="")))
    return zlib.crc32(said.encode()) or 1
