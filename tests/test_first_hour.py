"""The first hour shows what its list says, and selects what its rule says (``first_hour.py``)."""

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from . import first_hour, selection
from .servers.launch import WAYS

ROOT = Path(__file__).parents[1]

# The list.


@pytest.fixture
def collected(request: pytest.FixtureRequest) -> list[pytest.Item]:
    """The tests of the first hour: those that this run has, or the part of all that belongs."""
    config = request.config
    if not selection.is_first_hour(config) and not selection.is_everything(config):
        pytest.skip("it compares with all tests that there are, and some were selected")
    items = request.session.items
    return [item for item in items if item.get_closest_marker(first_hour.LEFT_OUT) is None]


def test_each_promise_through_each_way(collected: list[pytest.Item]) -> None:
    wanted = {*product(first_hour.promises(), WAYS)}
    found = first_hour.shown(collected)
    assert wanted - found - {*first_hour.EXEMPT} == set(), "nothing shows these"
    assert found - wanted == set(), "no module of the package promises these"
    assert found & {*first_hour.EXEMPT} == set(), "these are exempt for no reason"


def test_each_server(collected: list[pytest.Item]) -> None:
    found = {first_hour.server_of(item) for item in collected} - {None}
    assert found == {*first_hour.servers()}


def test_each_kind_of_callable_in_each_lane(collected: list[pytest.Item]) -> None:
    found = {
        (parameters["kind"], parameters["lane"])
        for item in collected
        if getattr(item, "originalname", "") == "test_each_kind_in_each_lane"
        and (parameters := first_hour.parameters(item))
    }
    assert found == {*product(first_hour.KINDS, first_hour.LANES)}


def test_the_package_declares_its_promises_by_name() -> None:
    found = first_hour.promises()
    assert found[:3] == ["never_before", "once_or_accounted", "outside_in"]
    assert len({*found}) == len(found) >= 16


# The rule, in a run of a few tests.

CONFTEST = """
import pytest
from tests import processes, selection

def pytest_addoption(parser):
    selection.add_option(parser)

def pytest_configure(config):
    for name in ("soak", "matrix", "postgresql", "in_process", "exhaustive", "first_hour"):
        config.addinivalue_line("markers", name)
    selection.register(config)

@pytest.fixture(scope="session")
def server_processes():
    pass

@pytest.fixture
def server(server_processes):
    processes.refuse_in_process("a server")
"""
TESTS = """
import pytest
from tests import processes

def test_plain():
    pass

@pytest.mark.exhaustive
def test_slow():
    pass

@pytest.mark.first_hour(a=1, b=("x", "y"))
@pytest.mark.matrix
@pytest.mark.parametrize("a", [1, 2])
@pytest.mark.parametrize("b", ["x", "y", "z"])
def test_served(server, a, b):
    pass

@pytest.mark.first_hour
@pytest.mark.parametrize("a", [1, pytest.param(2, marks=pytest.mark.postgresql)])
def test_needs(server, a):
    if a == 2:
        pytest.skip("no PostgreSQL")

@pytest.mark.soak
def test_soaks(server):
    pass
"""
FIRST = ["test_plain", *(f"test_served[{b}-1]" for b in "xy"), "test_needs[1]"]
REST = ["test_slow", *(f"test_served[{case}]" for case in ("x-2", "y-2", "z-1", "z-2"))]
REST += ["test_needs[2]", "test_soaks"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("few")
    options = "-p no:cacheprovider --strict-markers"
    (directory / "pytest.ini").write_text(f"[pytest]\ntestpaths = t\naddopts = {options}\n")
    (directory / "t").mkdir()
    (directory / "t/conftest.py").write_text(CONFTEST)
    (directory / "t/test_few.py").write_text(TESTS)
    return directory


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    # Loading the plugins of all that is installed takes longer than these runs.
    environ |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *arguments],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def ran(done: subprocess.CompletedProcess[str]) -> set[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return {*re.findall(r"test_few\.py::(\S+) (?:PASSED|SKIPPED)", done.stdout)}


LEFT_OUT = (
    "left out: 7 tests (soak 1, postgresql 1, matrix 4, in_process 1):"
    " python -m pytest --all runs them too"
)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], FIRST),
        (["--all"], FIRST + REST),
        (["t/test_few.py"], FIRST + REST),
        (["t/test_few.py::test_slow"], ["test_slow"]),
        (["-k", "slow"], ["test_slow"]),
        (["-m", "exhaustive"], REST),
        (["-m", "matrix"], [name for name in FIRST + REST if "served" in name]),
        (["-m", "in_process"], ["test_plain", "test_slow"]),
    ],
    ids=" ".join,
)
def test_it_selects(few: Path, arguments: list[str], expected: list[str]) -> None:
    done = run(few, *arguments)
    assert ran(done) == {*expected}
    assert (LEFT_OUT in done.stdout) is (arguments == [])


def test_its_last_lines(few: Path) -> None:
    """The last but the counts: what was left out; and with ``--all`` what was not there."""
    done = run(few, "-ra")
    assert done.stdout.splitlines()[-2].startswith(LEFT_OUT)
    done = run(few, "-ra", "--all")
    assert done.stdout.splitlines()[-2] == "not run: 1 test: no PostgreSQL"


def test_in_several_processes(few: Path) -> None:
    """The workers of xdist select, and tell the one that writes the last lines."""
    done = run(few, "-p", "xdist.plugin", "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(FIRST)} passed" in done.stdout
    assert done.stdout.splitlines()[-2].startswith(LEFT_OUT)


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("def test_it(): processes.refuse_in_process('a server')", "it must ask for the fixture"),
        ("@pytest.mark.first_hour(c=1)\ndef test_it(server): pass", "names no parameter: {'c'}"),
    ],
    ids=["an in_process test that starts a server", "a parameter that is not there"],
)
def test_a_wrong_marker_is_loud(few: Path, test: str, said: str) -> None:
    path = few / "t/test_wrong.py"
    path.write_text(f"import pytest\nfrom tests import processes\n{test}\n")
    try:
        done = run(few, "t/test_wrong.py")
    finally:
        path.unlink()
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
