"""How orders say to which node they go."""

NO_NODE = 255
"""The node number of an order that no node gets."""
