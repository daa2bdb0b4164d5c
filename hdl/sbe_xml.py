"""XML elements that know their file and line, so that an error in a schema can point at it; includes are followed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn, overload
from xml.parsers import expat

XINCLUDE = "http://www.w3.org/2001/XInclude"
SEPARATOR = "|"
"""Between a name's namespace and the name, as expat writes them."""

MOST_INCLUDES = 64
"""Files that one schema may be made of."""


class Problem(NamedTuple):
    """One thing that is wrong with a schema, and where."""

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


class SchemaError(ValueError):
    """A schema that is wrong or not supported. The message has a line ``file:line: reason`` for each problem."""

    def __init__(self, *problems: Problem | str) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Problems:
    """Collects what is wrong, so that all of it can be told at once."""

    def __init__(self) -> None:
        self._found: dict[Problem | str, None] = {}

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Keep a :class:`SchemaError` of the block, instead of raising it. What was found before is not kept twice."""
        try:
            yield
        except SchemaError as error:
            self._found.update(dict.fromkeys(error.problems))

    def raise_found(self) -> None:
        """Raise one :class:`SchemaError` of all that was found, if anything was."""
        if self._found:
            raise SchemaError(*self._found)


class Element:
    """An XML element; names are without their namespace, ``text`` is stripped."""

    def __init__(self, path: Path, line: int, name: str, attributes: dict[str, str]) -> None:
        self.path = path
        self.line = line
        self.namespace, _, self.name = name.rpartition(SEPARATOR)
        self.attributes = {name.rpartition(SEPARATOR)[2]: value for name, value in attributes.items()}
        self.children: list[Element] = []
        self.text = ""

    def problem(self, reason: str) -> Problem:
        """A problem with this element."""
        return Problem(self.path, self.line, reason)

    def refuse(self, reason: str) -> NoReturn:
        """Raise :class:`SchemaError` at this element."""
        raise SchemaError(self.problem(reason))

    def named(self, *names: str) -> Iterator["Element"]:
        """The children of these names, in order."""
        return (child for child in self.children if child.name in names)

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

    def number_if_given(self, attribute: str) -> int | None:
        """The same, or None where the attribute is not there."""
        return self.number(attribute) if attribute in self.attributes else None


def parse_xml(path: Path) -> Element:
    """The root element of a file, its ``xi:include`` replaced by the roots of what they name.

    Raises :class:`SchemaError` where it is no XML or an include leads nowhere, OSError where the file cannot be read.
    """
    return _Reader().read(path, ())


class _Reader:
    """Follows includes."""

    def __init__(self) -> None:
        self._files = 0

    def read(self, path: Path, within: tuple[Path, ...]) -> Element:
        root = _parse(path)
        self._include(root, (*within, path.resolve()))
        return root

    def _include(self, element: Element, within: tuple[Path, ...]) -> None:
        for index, child in enumerate(element.children):
            if child.name == "include" and child.namespace == XINCLUDE:
                element.children[index] = self._included(child, within)
            else:
                self._include(child, within)

    def _included(self, include: Element, within: tuple[Path, ...]) -> Element:
        if unsupported := [name for name in include.attributes if name not in ("href", "parse")]:
            include.refuse(f"an include with '{unsupported[0]}' is not supported, only whole files")
        if include.get("parse", "xml") != "xml":
            include.refuse("an include of text is not supported, only parse='xml'")
        path = include.path.parent / include.required("href")
        if path.resolve() in within:
            include.refuse(f"'{path}' includes itself")
        self._files += 1
        if self._files > MOST_INCLUDES:
            include.refuse(f"more than {MOST_INCLUDES} files are included")
        try:
            return self.read(path, within)
        except OSError as error:
            include.refuse(f"'{path}' cannot be included: {error.strerror}")


def _parse(path: Path) -> Element:
    parser = expat.ParserCreate(namespace_separator=SEPARATOR)
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
        raise SchemaError(Problem(path, error.lineno, f"not XML ({expat.errors.messages[error.code]})")) from None
    return root[0]
