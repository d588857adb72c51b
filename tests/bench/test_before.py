"""``bench ... --before`` measures both packages, and its verdict can fail."""

import argparse
import shutil
import signal
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest

import async_after.asgi
from bench import before, dispatch, idle, runs, workers
from bench.before import BEFORE, CONTROL, NOISY, NOT_WORSE, NOW, WORSE, Comparison, Round
from bench.report import Table
from bench.stats import Estimate

from ..required import soak
from .terminal import ROOT, on_a_terminal, run_bench

SLOW_REGISTRATION = """
from async_after import after_response

_register = type(after_response).__call__


def _slowly(*args, **kwargs):
    sum(range(3_000))
    return _register(*args, **kwargs)


type(after_response).__call__ = _slowly
"""
SLOW_WRAPPER = """

class AfterResponseMiddleware(AfterResponseMiddleware):
    async def __call__(self, *args):
        sum(range(500))
        await super().__call__(*args)
"""


def checkout(directory: Path, more: Mapping[str, str]) -> Path:
    """A copy of this one's package, with more behind the text of these files of it."""
    shutil.copytree(ROOT / "async_after", directory / "async_after")
    (directory / "bench").symlink_to(ROOT / "bench")
    for path, text in more.items():
        with (directory / path).open("a", encoding="utf-8") as file:
            file.write(text)
    return directory


def compared(command: ModuleType, other: Path) -> Table:
    args = argparse.Namespace(before=other, rounds=1, quick=True, seed=1)
    [table] = command.run(args)
    assert isinstance(table, Table)
    return table


def words(table: Table) -> dict[str, str]:
    return {row[0]: row[-1] for row in table.rows}


@pytest.mark.parametrize(
    ("low", "high", "control", "word"),
    [
        (0.9, 1.1, 1.01, NOT_WORSE),
        (0.8, 0.9, 1.01, NOT_WORSE),
        (1.0, 1.3, 1.01, NOT_WORSE),
        (1.005, 1.019, 1.0, NOT_WORSE),
        (1.005, 1.03, 1.0, WORSE),
        (1.2, 1.3, 1.1, WORSE),
        (1.005, 1.03, 1.01, NOISY),
    ],
)
def test_the_verdict(low: float, high: float, control: float, word: str) -> None:
    found = Estimate((low + high) / 2, low, high)
    assert before.verdict(found, Estimate(1.0, 0.99, control), same=1.0, allowed=1.02) == word


@pytest.mark.parametrize(
    ("unit", "name", "same", "double"),
    [("ns", "path/row/x before", 1.0, 2.0), ("s", "path/row/added", 0.0, 4.0)],
)
def test_a_process_is_one_sample_of_what_was_measured_in_turn(
    unit: str, name: str, same: float, double: float
) -> None:
    """Of three turns one was disturbed, on one side; of three rounds one had an odd process."""
    usual: Round = {
        side: [{"row": cost} for cost in costs]
        for side, costs in {
            BEFORE: [2.0, 4.0, 6.0],
            NOW: [4.0, 8.0, 600.0],
            CONTROL: [2.0, 4.0, 600.0],
        }.items()
    }
    odd: Round = {**usual, NOW: [{"row": 400.0}] * 3}
    comparison = Comparison("title", "path", lambda _: nullcontext({}), rounds=3, unit=unit)
    table = before.table(comparison, [usual, odd, usual], [], seed=1)
    found, control = table.figures
    assert (found.name, control.name) == (name, f"{name}, control")
    assert (found.estimate.low, found.estimate.value) == (double, double)
    assert found.estimate.high > 50
    assert (control.estimate.low, control.estimate.high) == (same, same)
    assert words(table) == {"row": WORSE}


def test_a_directory_without_the_package_is_refused(tmp_path: Path) -> None:
    for command in (dispatch, idle):
        with pytest.raises(SystemExit, match="there is no package async_after in it"):
            compared(command, tmp_path)


def test_a_package_from_elsewhere_is_not_measured(tmp_path: Path) -> None:
    (tmp_path / "async_after").mkdir()
    before.refuse_another(str(tmp_path / "async_after"), tmp_path)
    with pytest.raises(RuntimeError, match="imports is"):
        before.refuse_another(str(ROOT / "async_after"), tmp_path)


@pytest.mark.usefixtures("server_processes")
@pytest.mark.parametrize(("command", "rows"), [(dispatch, 15), (idle, 3)])
def test_both_packages_are_measured(command: ModuleType, rows: int, tmp_path: Path) -> None:
    table = compared(command, checkout(tmp_path / "other", {}))
    assert len(table.rows) == rows
    for found in table.figures:
        # One round says little; but it is neither nothing nor another order of magnitude.
        assert 0.1 < found.estimate.value < 10, found


@pytest.mark.usefixtures("server_processes")
def test_what_is_slower_in_idle_is_worse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = Path(async_after.asgi.__file__).relative_to(ROOT)
    slow = checkout(tmp_path / "slow", {str(wrapper): SLOW_WRAPPER})
    monkeypatch.setattr(before, "ROOT", slow)
    table = compared(idle, ROOT)
    assert words(table) == {"bare app": "-", "do-nothing wrapper": "-", "async_after": WORSE}


@pytest.mark.usefixtures("server_processes")
def test_what_is_slower_in_dispatch_is_worse(tmp_path: Path) -> None:
    """By the command itself, run in the slower checkout."""
    slow = checkout(tmp_path / "slow", {"async_after/__init__.py": SLOW_REGISTRATION})
    options = ("--rounds", "1", "--json", path := tmp_path / "found.json")
    ended = run_bench("dispatch", "--before", ROOT, *options, timeout=100, directory=slow)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [run] = runs.read(path).runs
    [table] = run.tables
    # With one registration an exchange most of the cost is the exchange's.
    for count in (10, 100):
        assert words(table)[f"async, cpu/{count} per exchange"] == WORSE
    figures = {figure.name: figure.estimate.value for figure in table.figures}
    assert figures["dispatch/async, cpu/100 per exchange/x before"] > 1.5


def test_a_worker_that_fails_is_told_with_its_last_words() -> None:
    with (
        workers.started("bench.before_worker", "no_command") as worker,
        pytest.raises(RuntimeError, match=r"no_command failed:(?s:.*)ModuleNotFoundError"),
    ):
        worker.ask()


@soak
def test_ctrl_c_ends_the_workers_and_keeps_what_was_measured(tmp_path: Path) -> None:
    options = ("--rounds", "10", "--json", path := tmp_path / "found.json")
    with on_a_terminal("idle", "--before", ROOT, *options) as it:
        it.wait_for(rb"[1-9]\d %", 60)
        it.end(signal.SIGINT)
        assert it.process.returncode == 130, it.output()
    [run] = runs.read(path).runs
    assert run.state == "interrupted"
    [table] = run.tables
    assert "INTERRUPTED" in table.render()
    assert [row[0] for row in table.rows] == [*idle.CONTENDERS]


@soak
def test_the_servers_of_latency_are_compared() -> None:
    ended = run_bench("latency", "--before", ROOT, "--rounds", "1", "--app", "bare", timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for row in ("no callback", "async sleep 1 s", "sync sleep 1 s"):
        for figure in ("complete response", "next request", "EOF after close"):
            assert f"{row}/{figure}" in ended.stdout
