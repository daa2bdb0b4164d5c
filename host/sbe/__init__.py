"""SBE schemas and messages for people: listings of a schema, every field of messages as tables."""
