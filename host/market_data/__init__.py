"""Books, trades and statistics from frames (docs/books.md)."""

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
