"""Measures the product beside what one would take instead, in the same run: `make bench`."""
