"""The two benchmarks that drive a server for long, and that the judges of one are just."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from async_after import CallbackState, exchange_scope
from bench.soak import census
from bench.soak.ledger import Ledger, Note, counted

from ..processes import refuse_in_process
from ..required import soak

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    refuse_in_process(f"bench {arguments[0]}")
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@soak
@pytest.mark.timeout(300)
def test_soak_loses_nothing_and_leaves_nothing_behind() -> None:
    ended = bench("soak", "--seconds", "20")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "WRONG" not in ended.stdout
    assert "LEAK" not in ended.stdout


@soak
@pytest.mark.timeout(300)
def test_starvation_ends_with_its_tables() -> None:
    ended = bench("starvation", "--quick")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "worker threads" in ended.stdout


@counted
def succeed(note: Note) -> None:
    pass


@counted
def fail(note: Note) -> None:
    raise ValueError


def entered_twice(note: Note) -> None:
    succeed(note)
    succeed(note)


@pytest.mark.parametrize(
    ("function", "expected", "is_right"),
    [
        (succeed, "succeeded", True),
        (fail, "failed", True),
        (fail, "succeeded", False),
        (succeed, "failed", False),
        (entered_twice, "succeeded", False),
        (lambda note: None, "succeeded", False),
    ],
)
def test_the_ledger(function: Callable[..., Any], expected: str, is_right: bool) -> None:
    ledger = Ledger()
    with exchange_scope():
        callback = ledger.add("kind", function, expected=frozenset({expected}))
        assert ledger.sweep() == 1
    assert callback.state is not CallbackState.PENDING
    assert ledger.sweep() == 0
    assert bool(ledger.told()["wrong"]) is not is_right
    assert ledger.told()["kinds"]["kind"]["registered"] == 1


class Ours:
    """Something whose module is the package's."""

    other: "Ours | None" = None


Ours.__module__ = "async_after.somewhere"


@pytest.mark.exhaustive
def test_the_census_finds_cycles_of_ours_only() -> None:
    census.watch()
    try:
        a, b, hanging = Ours(), Ours(), Ours()
        a.other, b.other = b, a
        theirs: list[object] = [hanging]
        theirs.append(theirs)
        del a, b, hanging, theirs
    finally:
        found = census.garbage()
    # Other tests may have left some.
    ours = {shape: count for shape, count in found["shapes"].items() if "Ours" in shape}
    assert ours == {"Ours, Ours": 1}
    assert not gc.garbage
    assert gc.isenabled()


@pytest.mark.exhaustive
async def test_the_census_counts_threads_tasks_and_files() -> None:
    before = census.take()
    waiting = asyncio.create_task(asyncio.Event().wait())
    await asyncio.sleep(0)
    with (ROOT / "pyproject.toml").open():
        after = census.take()
    waiting.cancel()
    assert after["tasks"]["Event.wait"] == before["tasks"]["Event.wait"] + 1
    assert after["files"]["pyproject.toml"] == 1
    assert after["threads"]["MainThread"] == 1
