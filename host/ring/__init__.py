"""Rings in shared memory: slots that carry the number of their lap, credit that says which may be written again."""
