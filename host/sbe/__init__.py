"""SBE schemas and messages for people: listings of a schema."""
