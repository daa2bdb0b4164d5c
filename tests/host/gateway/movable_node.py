"""A node whose books can be taken and given, for tests, where :class:`MatchingNode` itself cannot yet do that."""

import numpy as np

from host.cluster import MatchingNode

if hasattr(MatchingNode, "take_book"):
    MovableNode = MatchingNode
else:
    from host.cluster.book import (
        NONE,
        ORDER_DTYPE,
        direction_of,
        find_book,
        free_order,
        index,
        rest,
        take_order,
        unindex,
        unrest,
    )

    class MovableNode(MatchingNode):  # type: ignore[no-redef]
        """Takes and gives books order by order, in Python."""

        def take_book(self, instrument: int) -> np.ndarray:
            """Every open order, in priority."""
            book = find_book(self.state, np.uint64(instrument), False)
            rows = []
            for direction in range(2) if book != NONE else ():
                while (level := self.state.books[book]["best"][direction]) != NONE:
                    order = self.state.levels[level]["first"]
                    rows.append(self.state.orders[order].copy())
                    unindex(self.state, order)
                    unrest(self.state, order)
                    free_order(self.state, order)
            return np.array(rows, ORDER_DTYPE)

        def give_book(self, instrument: int, rows: np.ndarray) -> None:
            """Rests the orders in their priority."""
            if self.open_orders + len(rows) > len(self.state.orders):
                raise ValueError("no room")
            book = find_book(self.state, np.uint64(instrument), True)
            for row in rows:
                order = take_order(self.state)
                for name in ("key_low", "key_high", "price", "leaves", "cumulative", "sequence", "flow", "side"):
                    self.state.orders[order][name] = row[name]
                rest(self.state, order, book, np.int64(direction_of(row["side"])))
                index(self.state, order)
