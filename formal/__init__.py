"""Proofs about the card's blocks (docs/formal.md): ``formal.run`` is ``make formal``, ``formal.specs`` says what is proved."""
