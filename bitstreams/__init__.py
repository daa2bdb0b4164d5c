"""The card on silicon: synthesis, placement, and what they say of size and speed."""
