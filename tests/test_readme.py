"""What README.md and docs/ name is there: targets, options, benches, files; and the demo prints what is shown."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from host.cli import app
from sim.benches import BENCHES

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
CODE_PATH = re.compile(r"`((?:docs|hdl|host|sim|tests)/[\w./]*)`")
PLACEHOLDER = "NAME"
"""Stands for a name that the reader chooses."""

MEASURED = re.compile(r"^(setup:|Compiling|seconds |[\w ]+ a second |card cycles)")
"""Lines of the demo that differ from run to run, or from machine to machine."""


def fences(text: str) -> list[list[str]]:
    """The lines of each code fence."""
    return [block.splitlines() for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)]


def commands(program: str) -> list[list[str]]:
    """The words of each line in a fence that calls a program."""
    lines = [line for block in fences(README) for line in block]
    return [shlex.split(line, comments=True) for line in lines if line.split()[:1] == [program]]


def options(command: object) -> Iterator[str]:
    """All spellings of a command's options."""
    for parameter in command.params:
        if parameter.param_type_name == "option":
            yield from (*parameter.opts, *parameter.secondary_opts)


def test_there_are_commands() -> None:
    assert [words for words in commands("make") if words == ["make", "demo"]]
    assert {words[1] for words in commands("tickgate")} >= {"generate", "replay"}


@pytest.mark.parametrize("words", commands("make"), ids=" ".join)
def test_make_has_the_target_and_its_variables(words: list[str]) -> None:
    for word in words[1:]:
        name, assigns, value = word.partition("=")
        if assigns:
            assert f"$({name})" in MAKEFILE
            assert name != "BENCH" or value in BENCHES
        else:
            assert re.search(rf"^{name}:.* ## ", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("words", commands("tickgate"), ids=" ".join)
def test_tickgate_has_the_subcommand_and_its_options(words: list[str]) -> None:
    subcommand = get_command(app).commands[words[1]]
    assert {word for word in words if word.startswith("--")} <= set(options(subcommand))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_exists(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_source_files_that_a_page_names_exist(page: Path) -> None:
    named = [path for path in CODE_PATH.findall(page.read_text()) if PLACEHOLDER not in path]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_layout_names_every_folder() -> None:
    tree = next(block for block in fences(README) if block[0].startswith("hdl/"))
    assert [path for path in (line.split()[0] for line in tree) if not (ROOT / path).is_dir()] == []


def test_the_index_lists_every_page() -> None:
    listed = LINK.findall((ROOT / "docs" / "README.md").read_text())
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md")


def test_the_demo_prints_what_is_shown(tmp_path: Path) -> None:
    """With the quicker card: its name apart, both print the same."""
    command = [Path(sys.executable).with_name("tickgate"), "demo", "--card", "soft:"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    printed = [" ".join(line.split()) for line in done.stdout.replace("soft:", "rtl:").splitlines()]
    shown = next(block for block in fences(README) if "Card rtl:" in block)
    lines = [" ".join(line.split()) for line in shown if line.strip("… ") and not MEASURED.match(line)]
    assert len(lines) > 20
    rest = iter(printed)
    missing = [line for line in lines if line not in rest]
    assert missing == [], "not printed, or not in this order"
