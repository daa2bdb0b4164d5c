"""Specifications, one file a block."""
