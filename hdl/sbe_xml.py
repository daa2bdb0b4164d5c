"""XML elements that know their line, so that an error in a schema can point at it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, overload
from xml.parsers import expat


class SchemaError(ValueError):
    """A schema that is wrong or not supported. The message reads ``file:line: reason``."""


class Element:
    """An XML element without its namespace prefix; ``text`` is stripped."""

    def __init__(self, path: Path, line: int, name: str, attributes: dict[str, str]) -> None:
        self.path = path
        self.line = line
        self.name = name.rpartition(":")[2]
        self.attributes = attributes
        self.children: list[Element] = []
        self.text = ""

    def refuse(self, reason: str) -> NoReturn:
        """Raise :class:`SchemaError` at this element."""
        raise SchemaError(f"{self.path}:{self.line}: {reason}")

    def named(self, name: str) -> Iterator["Element"]:
        """The children of this name, in order."""
        return (child for child in self.children if child.name == name)

    @overload
    def get(self, attribute: str) -> str | None: ...
    @overload
    def get(self, attribute: str, default: str) -> str: ...
    def get(self, attribute: str, default: str | None = None) -> str | None:
        """An attribute, or the default."""
        return self.attributes.get(attribute, default)

    def required(self, attribute: str) -> str:
        """An attribute that must be there."""
        if attribute not in self.attributes:
            self.refuse(f"<{self.name}> has no attribute '{attribute}'")
        return self.attributes[attribute]

    def number(self, attribute: str, default: int | None = None) -> int:
        """An attribute that must be a whole number of 0 or more (and be there, without a default)."""
        if default is not None and attribute not in self.attributes:
            return default
        text = self.required(attribute)
        if not (text.isascii() and text.isdigit()):
            self.refuse(f"{attribute}='{text}' is not a whole number")
        return int(text)


def parse_xml(path: Path) -> Element:
    """The root element of a file. Raises :class:`SchemaError` where it is no XML, OSError where it cannot be read."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    root: list[Element] = []
    open_elements: list[Element] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        element = Element(path, parser.CurrentLineNumber, name, attributes)
        (open_elements[-1].children if open_elements else root).append(element)
        open_elements.append(element)

    def end(_name: str) -> None:
        element = open_elements.pop()
        element.text = element.text.strip()

    def text(data: str) -> None:
        if open_elements:
            open_elements[-1].text += data

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise SchemaError(f"{path}:{error.lineno}: not XML ({expat.errors.messages[error.code]})") from None
    return root[0]
