"""The set-up: what is declared, what is locked, and what setup.sh does on a machine that lacks something."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text()
LOCK = (ROOT / "requirements.lock").read_text()

SUPPORTED = ("3.11", "3.12", "3.13")

TOOLS_OF_SETUP = (
    *("apt-cache", "awk", "bash", "cat", "cut", "dirname", "env", "flock", "g++", "grep", "head", "ldconfig", "make"),
    *("mktemp", "mv", "perl", "rm", "sha256sum", "tail", "tee", "tr", "true"),
)
"""What setup.sh calls; a test's PATH has these, less what is to be missing."""


def declared() -> dict[str, Any]:
    return tomllib.loads(PYPROJECT)


def requirements() -> list[str]:
    project = declared()["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(line for extra in extras for line in extra)]


def distribution(requirement: str) -> str:
    """The normalized name (PEP 503) of a requirement line."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def locked() -> dict[str, str]:
    """Name to version, as in the lock."""
    lines = [line for line in LOCK.splitlines() if line and not line.lstrip().startswith("#")]
    return dict(line.split(";")[0].strip().split("==") for line in lines)


class TestDeclaration:
    @pytest.mark.parametrize("requirement", requirements())
    def test_every_dependency_says_why_it_is_there(self, requirement: str) -> None:
        lines = [line for line in PYPROJECT.splitlines() if line.strip().startswith(f'"{requirement}"')]
        assert lines
        for line in lines:
            assert re.search(r'",\s+# \S', line), f"no reason: {line}"

    def test_the_light_host_needs_neither_hdl_nor_simulator(self) -> None:
        names = {distribution(line) for line in declared()["project"]["dependencies"]}
        assert names == {"numpy", "numba", "pyarrow", "pyserial", "rich", "typer", "backports-zstd", "lz4", "zlib-ng"}

    def test_every_package_folder_is_a_package(self) -> None:
        """A folder with Python files but no __init__.py would be missing from the distribution."""
        folders = {file.parent for top in ("hdl", "host", "sim") for file in (ROOT / top).rglob("*.py")}
        assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


class TestLock:
    def test_every_line_is_an_exact_version(self) -> None:
        for line in LOCK.splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .+)?", line), line

    def test_every_declared_dependency_is_locked_within_its_bounds(self) -> None:
        specifiers = pytest.importorskip("packaging.requirements")
        versions = locked()
        for line in requirements():
            requirement = specifiers.Requirement(line)
            assert requirement.specifier.contains(versions[distribution(line)]), line

    @pytest.mark.parametrize("python", SUPPORTED)
    def test_markers_keep_every_declared_dependency_on_each_python(self, python: str) -> None:
        specifiers = pytest.importorskip("packaging.requirements")
        here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
        lines = [line for line in LOCK.splitlines() if line and not line.lstrip().startswith("#")]
        parsed = [specifiers.Requirement(line) for line in lines]
        kept = {each.name for each in parsed if each.marker is None or each.marker.evaluate(here)}
        assert {distribution(line) for line in requirements()} <= kept

    def test_this_environment_holds_what_the_lock_says(self) -> None:
        if not (Path(sys.prefix) / "tickgate-ready").is_file():
            pytest.skip("not the environment that setup.sh makes")
        command = [sys.executable, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        versions = locked()
        for name, version in (line.split("==") for line in listed):
            if distribution(name) not in ("pip", "tickgate"):
                assert versions[distribution(name)] == version

    def test_no_file_of_the_set_up_names_where_packages_come_from(self) -> None:
        for name in ("pyproject.toml", "requirements.lock", "setup.sh", "Makefile", ".ci/run"):
            text = (ROOT / name).read_text()
            assert not re.search(r"https?://|--(extra-)?index-url[ =]|--find-links[ =]|pypi\.org|trusted-host", text), (
                name
            )


class TestMakefile:
    def test_help_is_the_default_and_names_every_target(self) -> None:
        ran = subprocess.run(["make"], cwd=ROOT, env=plain_environment(), capture_output=True, text=True, check=True)
        for target in ("demo", "test", "lint", "sim", "bench", "lock", "clean"):
            assert f"make {target} " in ran.stdout

    def test_the_bench_and_waves_are_handed_on(self) -> None:
        command = ["make", "-n", "sim", "BENCH=fix_parser", "WAVES=1"]
        ran = subprocess.run(command, cwd=ROOT, env=plain_environment(), capture_output=True, text=True, check=True)
        assert ".venv/bin/python -m sim.run --bench fix_parser --waves" in ran.stdout


def plain_environment() -> dict[str, str]:
    """Without what an outer make leaves, whose flags would change this one."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


class Machine:
    """A copy of the set-up's files and a PATH of its own, from which programs can be left out."""

    def __init__(self, folder: Path, *, user: int, without: tuple[str, ...] = ()) -> None:
        self.home = folder / "home"
        self.project = folder / "project"
        self.programs = folder / "programs"
        self.apt_calls = folder / "apt-calls"
        for each in (self.home, self.project, self.programs):
            each.mkdir()
        for name in ("setup.sh", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, self.project)
        for name in TOOLS_OF_SETUP:
            program = shutil.which(name)
            if program is not None and name not in without:
                (self.programs / name).symlink_to(program)
        # The base interpreter, not this environment's: setup.sh makes environments from it.
        base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        (self.programs / "python3").symlink_to(base)
        self.program("id", f"echo {user}")
        self.program("apt-get", f'echo "$@" >>{self.apt_calls}')

    def program(self, name: str, text: str) -> None:
        file = self.programs / name
        file.unlink(missing_ok=True)
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.project / "setup.sh", *arguments],
            env={"PATH": str(self.programs), "HOME": str(self.home), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self) -> list[str]:
        """What apt-get was called with, a line a call."""
        return self.apt_calls.read_text().splitlines() if self.apt_calls.exists() else []


class TestSystemPackages:
    def test_a_user_without_sudo_gets_the_command_and_nothing_happens(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, user=1000, without=("g++", "perl"))
        ran = machine.setup()
        assert ran.returncode == 2
        assert "missing: g++ (" in ran.stderr
        command = ran.stderr.splitlines()[-1].removeprefix("setup:").strip()
        assert re.fullmatch(r"sudo apt-get update && sudo apt-get install -y g\+\+ perl( \S+-dev)*", command)
        assert machine.installed() == []
        assert not (machine.project / ".venv").exists()

    def test_a_user_whose_sudo_asks_for_a_password_gets_the_command(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, user=1000, without=("g++",))
        machine.program("sudo", "exit 1")
        ran = machine.setup()
        assert ran.returncode == 2
        assert "sudo apt-get install -y g++" in ran.stderr
        assert machine.installed() == []

    def test_a_system_without_apt_is_told_what_is_missing(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, user=0, without=("g++",))
        (machine.programs / "apt-get").unlink()
        ran = machine.setup()
        assert ran.returncode == 2
        assert "missing: g++ (compiles the simulated card)" in ran.stderr
        assert "There is no apt-get here" in ran.stderr

    @pytest.mark.parametrize("user", [0, 1000], ids=["root", "sudo"])
    def test_whoever_may_install_gets_the_packages_and_is_told(self, tmp_path: Path, user: int) -> None:
        machine = Machine(tmp_path, user=user, without=("g++",))
        machine.program("sudo", 'shift; exec "$@"')
        compiler = shutil.which("g++")
        calls, program = machine.apt_calls, machine.programs / "g++"
        machine.program(
            "apt-get", f'echo "$@" >>{calls}; [[ $1 == update ]] || /bin/ln -s {compiler} {program}; echo chatter'
        )
        ran = machine.setup("system")
        assert ran.returncode == 0, ran.stderr
        update, install = machine.installed()
        assert update.startswith("update")
        assert install.startswith("install -y --no-install-recommends")
        assert " g++" in install
        assert "installing system packages with apt-get, about a minute: g++ (compiles" in ran.stdout
        assert "chatter" not in ran.stdout
        machine.apt_calls.unlink()
        again = machine.setup("system")
        assert (again.returncode, again.stdout, machine.installed()) == (0, "", [])

    def test_an_installation_that_fails_shows_why(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, user=0, without=("g++",))
        machine.program("apt-get", "echo 'E: Unable to locate package'; exit 100")
        ran = machine.setup()
        assert ran.returncode == 1
        assert "E: Unable to locate package" in ran.stderr
        assert "apt-get could not install: g++" in ran.stderr

    def test_without_python_it_is_a_package_too(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, user=1000)
        machine.program("python3", "exit 1")
        script = machine.project / "setup.sh"
        script.write_text(script.read_text().replace("/usr/bin/python3", "/nowhere/python3"))
        ran = machine.setup()
        assert ran.returncode == 2
        assert re.search(r"install -y python3\.1\d python3\.1\d-venv libpython3\.1\d", ran.stderr)


class TestEnvironment:
    def test_a_failed_installation_is_not_taken_for_a_finished_one(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, user=0)
        if machine.setup("system").returncode != 0 or machine.installed():
            pytest.skip("system packages are missing here")
        (machine.project / "requirements.lock").write_text("setuptools==0.0.0\n")
        for _ in range(2):
            ran = machine.setup()
            assert ran.returncode == 1
            assert "pip failed" in ran.stderr
            assert not (machine.project / ".venv" / "tickgate-ready").exists()

    def test_an_unknown_word_is_refused(self, tmp_path: Path) -> None:
        ran = Machine(tmp_path, user=1000).setup("everything")
        assert ran.returncode == 2
        assert "usage: ./setup.sh [system | boards | lock]" in ran.stderr
