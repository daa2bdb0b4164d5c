"""Which of the project's files something is made of: for caches of compiled things."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent

PROJECT_IMPORT = re.compile(r"^from ((?:hdl|host|sim)(?:\.\w+)*) import", re.MULTILINE)
"""The project imports its own modules in this form only; what a function imports is not part of what the module is made of."""


def closure(files: Iterable[Path]) -> list[Path]:
    """``files``, what they import of the project, what that imports, and so on; sorted."""
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in PROJECT_IMPORT.findall(path.read_text(encoding="utf-8")):
            module = ROOT.joinpath(*name.split("."))
            package = module / "__init__.py"
            waiting.append(package if package.exists() else module.with_suffix(".py"))
    return sorted(found)


def content_hash(files: Iterable[Path]) -> str:
    """A hash of the files' contents, in their order; 20 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]
