"""Trials: the whole gateway against faults, judged by what does not come from it."""
