"""Books as one writes them first: lists, dictionaries and sorting. They follow docs/books.md, not the code."""

import itertools
from collections import Counter
from dataclasses import dataclass, field

from tests.host.market_data.entries import CHANGE, DELETE, FROM, NEW, THRU, Entry

DEPTH = {"0": 3, "1": 3, "E": 2, "F": 2}


@dataclass
class Model:
    """One instrument whose books are known from the first update on."""

    sides: dict[str, list] = field(default_factory=lambda: {each: [] for each in "01EF"})
    priced: dict[str, dict] = field(default_factory=lambda: {"0": {}, "1": {}})
    orders: dict[int, list] = field(default_factory=dict)
    violations: Counter = field(default_factory=Counter)
    arrivals: int = 0

    def numbered(self, entry: Entry) -> None:
        side, depth, at = self.sides[entry.type], DEPTH[entry.type], entry.level - 1
        if entry.action == THRU:
            side.clear()
            return
        if at >= depth:
            self.violations["DEPTH"] += 1
            return
        if entry.action in (DELETE, FROM):
            if at >= len(side):
                self.violations["LEVEL_ABSENT"] += 1
                if entry.action == FROM:
                    side.clear()
            elif entry.action == DELETE:
                del side[at]
            else:
                del side[: at + 1]
            return
        if entry.price is None:
            self.violations["PRICE"] += 1
        if not entry.quantity:
            self.violations["SIZE"] += 1
        level = (entry.price or 0, entry.quantity or 0, entry.orders)
        if entry.action == NEW:
            if at > len(side):
                self.violations["LEVEL_HOLE"] += 1
                side += [None] * (at - len(side))
            side.insert(at, level)
            del side[depth:]
            return
        if at >= len(side):
            self.violations["LEVEL_ABSENT"] += 1
            side += [None] * (at + 1 - len(side))
        elif entry.action == CHANGE and side[at] is not None and side[at][0] != level[0]:
            self.violations["PRICE_CHANGED"] += 1
        side[at] = level

    def by_price(self, entry: Entry) -> None:
        side = self.priced[entry.type]
        if entry.action == THRU:
            side.clear()
        elif entry.price is None:
            self.violations["PRICE"] += 1
        elif entry.action == DELETE or not entry.quantity:
            if side.pop(entry.price, None) is None:
                self.violations["LEVEL_ABSENT"] += 1
        else:
            side[entry.price] = (entry.price, entry.quantity, entry.orders)

    def by_order(self, entry: Entry) -> None:
        before = self.orders.get(entry.order_id)
        if entry.action == DELETE:
            if before is None:
                self.violations["ORDER_UNKNOWN"] += 1
            else:
                del self.orders[entry.order_id]
            return
        if entry.action == NEW and before is not None:
            self.violations["ORDER_KNOWN"] += 1
        if entry.action == CHANGE and before is None:
            self.violations["ORDER_UNKNOWN"] += 1
        if not entry.quantity:
            self.violations["SIZE"] += 1
        self.arrivals += 1
        arrival = self.arrivals
        if entry.action == CHANGE and before is not None:
            same_place = before[:2] == [entry.type, entry.price]
            if same_place and (entry.priority == before[3] if entry.priority else (entry.quantity or 0) <= before[2]):
                arrival = before[4]
        priority = entry.priority
        if not priority and before is not None:
            priority = before[3]
        self.orders[entry.order_id] = [entry.type, entry.price, entry.quantity or 0, priority, arrival]

    def queue(self, side: str) -> list[tuple[int, int, int]]:
        """(id, price, quantity) of a side's orders as they trade."""
        sign = -1 if side == "0" else 1
        its = [
            (sign * price, priority, arrival, number, quantity)
            for number, (where, price, quantity, priority, arrival) in self.orders.items()
            if where == side
        ]
        return [(number, sign * price, quantity) for price, _, _, number, quantity in sorted(its)]

    def order_levels(self, side: str) -> list[tuple[int, int, int]]:
        levels: dict[int, list[int]] = {}
        for _, price, quantity in self.queue(side):
            levels.setdefault(price, []).append(quantity)
        return [(price, sum(its), len(its)) for price, its in levels.items()]

    def price_levels(self, side: str) -> list[tuple[int, int, int]]:
        return [self.priced[side][price] for price in sorted(self.priced[side], reverse=side == "0")]

    def levels(self, side: str) -> list:
        return self.sides[side]

    def is_in_order(self, side: str) -> bool:
        sign = -1 if side == "0" else 1
        for each in (side, {"0": "E", "1": "F"}[side]):
            prices = [sign * level[0] for level in self.sides[each] if level is not None]
            if any(above >= below for above, below in itertools.pairwise(prices)):
                return False
        return True

    def combined(self, side: str) -> list[tuple[int, int, int]]:
        levels: dict[int, list[int]] = {}
        for each, is_outright in ((side, True), ({"0": "E", "1": "F"}[side], False)):
            for level in self.sides[each]:
                if level is not None:
                    its = levels.setdefault(level[0], [0, 0])
                    its[0] += level[1]
                    its[1] += level[2] if is_outright else 0
        return [(price, *levels[price]) for price in sorted(levels, reverse=side == "0")]
