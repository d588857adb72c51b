"""``bench rivals`` is just: it sees who loses work, who makes the client wait, who is silent."""

import argparse
import threading
from pathlib import Path

import pytest

from bench import rivals
from bench.rivals import losses, waits, ways
from bench.rivals.losses import CLOSES, LEAVES, TERM, WORK_RAISES, Judge
from bench.rivals.waits import Meter
from bench.rivals.ways import Way
from bench.rivals.work import LEDGER, Ledger, async_work, sync_work

from ..required import soak

COUNT = 5


def test_the_ledger_counts_what_the_work_has_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LEDGER, str(tmp_path / "ledger"))
    ledger = Ledger(tmp_path / "ledger")
    sync_work("a", 0)
    async_work("b", 0).close()
    assert ledger.wait("done", ["a", "b"], quiet=0.05) == 1
    assert ledger.wait("done", ["a", "b"], quiet=30, enough=1) == 1
    assert ledger.tokens("entered") == {"a"}


@soak
@pytest.mark.parametrize(("name", "lost"), [("create_task-kept", COUNT), ("async_after", 0)])
def test_sigterm_takes_what_nobody_waits_for(
    name: str, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than a shutdown takes on a loaded machine.
    monkeypatch.setattr(losses, "TERM_SECONDS", 4.0)
    way = ways.named(name)
    row = Judge(way, way.kinds[0], COUNT).judge([TERM])
    assert row.asked == {TERM: COUNT}
    assert row.lost == {TERM: lost}


@soak
@pytest.mark.parametrize(
    ("name", "lost", "logged"),
    [
        ("in-send", {CLOSES: COUNT, WORK_RAISES: COUNT}, losses.LOGGED),
        ("resource-closers", {CLOSES: 0, LEAVES: COUNT, WORK_RAISES: 0}, losses.NOT_LOGGED),
        ("async_after", {CLOSES: 0, LEAVES: 0, WORK_RAISES: 0}, losses.LOGGED),
        ("async_after-middleware", {CLOSES: 0, LEAVES: 0, WORK_RAISES: 0}, losses.LOGGED),
    ],
)
def test_clients_and_failures(name: str, lost: dict[str, int], logged: str) -> None:
    way = ways.named(name)
    row = Judge(way, way.kinds[0], COUNT).judge(list(lost))
    assert row.lost == lost
    assert row.logged == logged


@soak
@pytest.mark.parametrize(("name", "waits_for_it"), [("awaited", True), ("async_after", False)])
def test_who_waits(name: str, waits_for_it: bool) -> None:
    found = Meter(ways.named(name), "async", threading.Event()).measure(4, seconds=0, warm_up=0)
    assert found.pairs == 4
    assert found.done == found.asked == 8
    for figure in ("complete response", "EOF after close"):
        added = found.added(figure, seed=1).value
        assert (added > waits.SECONDS / 2) is waits_for_it


def test_what_cannot_be_had_is_said() -> None:
    way = Way("none", "none", ("no-such-package",))
    assert way.why_left_out() == "no-such-package is not installed"


@pytest.mark.usefixtures("server_processes")
def test_the_loss_table_holds_us_to_none() -> None:
    parser = argparse.ArgumentParser()
    rivals.add_arguments(parser)
    chosen = ["--way", "async_after", "--way", "thread", "--only", "loss", "--count", "3"]
    args = parser.parse_args(chosen, argparse.Namespace(quick=True, seed=1))
    [table] = rivals.run(args)
    assert [row[0] for row in table.rows] == ["async_after, the wrapper", "a thread per call"]
    figures = {figure.name: figure for figure in table.figures}
    for column in losses.COLUMNS:
        assert figures[f"rivals/async_after/async/lost: {column}"].is_met is True
        assert figures[f"rivals/thread/sync/lost: {column}"].aim is None
    assert figures["rivals/async_after/async/failure logged"].is_met is True
    assert "met (0 of 218 lost)" in table.render()
