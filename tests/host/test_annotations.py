"""In the host every function has its types written down, unless Numba infers them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

COMPILERS = {"cfunc", "guvectorize", "intrinsic", "jit", "njit", "overload", "vectorize"}
"""Numba's decorators. What stands inside such a function is Numba's as well."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_compiled(function: Function) -> bool:
    calls = (each.func if isinstance(each, ast.Call) else each for each in function.decorator_list)
    names = (each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "") for each in calls)
    return not COMPILERS.isdisjoint(names)


def interpreted(tree: ast.AST) -> Iterator[Function]:
    """The functions that Python runs."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, Function):
            if is_compiled(child):
                continue
            yield child
        yield from interpreted(child)


def lacks_types(function: Function) -> bool:
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    arguments += [each for each in (given.vararg, given.kwarg) if each is not None]
    without = [each for each in arguments if each.annotation is None and each.arg not in ("self", "cls")]
    return bool(without) or (function.returns is None and function.name != "__init__")


@pytest.mark.parametrize("file", sorted((ROOT / "host").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_only_kernels_are_without_types(file: Path) -> None:
    lacking = [
        f"{each.name}, line {each.lineno}" for each in interpreted(ast.parse(file.read_text())) if lacks_types(each)
    ]
    assert lacking == []
