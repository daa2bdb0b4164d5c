"""Books, trades and statistics from frames (docs/books.md), and the arbitration of A and B feeds (docs/feeds.md).

What books are made of is loaded when it is asked for: cards and replays want the feeds' rule alone, and books bring Arrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from host.market_data.books import Books, BooksError, Feed, Level, Levels, Order
    from host.market_data.layout import Mark, Role, View, Violation
    from host.market_data.tables import as_decimals

__all__ = [
    "Books",
    "Feed",
    "Role",
    "View",
    "Mark",
    "Levels",
    "Level",
    "Order",
    "Violation",
    "as_decimals",
    "BooksError",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    # books.py uses all of layout.py's names, and tables.py has what makes tables.
    return getattr(import_module(f"{__name__}.{'tables' if name == 'as_decimals' else 'books'}"), name)
