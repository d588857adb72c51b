"""``bench scale`` counts what callbacks cost, judges whether it grows, and leaves no process."""

import argparse
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from bench import report_command, runs, scale
from bench.scale import Cell, Result, growth, tables, why_not
from bench.scale_worker import Found
from bench.summary import judged

from ..required import soak
from .terminal import on_a_terminal, run_bench

SMALL = Found([8e3, 10e3, 12e3], [4e3, 5e3, 6e3])
"""Nanoseconds: 15 µs in all."""
FREE = 8 * 2.0**30


def times(factor: float, weight: float | None = None) -> Found:
    register, run = ([x * factor for x in samples] for samples in (SMALL.register, SMALL.run))
    return Found(register, run, bytes=weight)


def test_the_growth_is_the_ratio_of_means_within_what_the_samples_allow() -> None:
    found = growth([20.0] * 10, [10.0] * 7, seed=1)
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)
    found = growth([15.0, 20.0, 25.0], [8.0, 10.0, 12.0], seed=1)
    assert found.value == 2.0
    assert 15 / 12 <= found.low < 2.0 < found.high <= 25 / 8


def test_what_few_parts_have_to_pay_is_not_lost() -> None:
    """As the garbage collector, which the median would leave out."""
    found = scale.mean([10.0] * 9 + [110.0], seed=1)
    assert found.value == 20.0
    assert found.high > 20.0


@pytest.mark.parametrize(
    ("factor", "word"), [(1.0, "met"), (1.3, "met"), (1.9, "missed"), (10.0, "missed")]
)
def test_what_grows_with_the_number_misses_the_aim(factor: float, word: str) -> None:
    """The whole interval must keep the limit; below 10,000 nothing is judged."""
    result = Result(
        {
            ("waiting", "async", 100): SMALL,
            ("waiting", "async", 1_000): times(10),
            ("waiting", "async", 10_000): times(10 * factor, weight=2_000.0),
        }
    )
    [table] = tables(result, seed=1)
    assert [row[0] for row in table.rows] == ["async, 100", "async, 1,000", "async, 10,000"]
    figures = {figure.name: figure for figure in table.figures}
    for phase in ("register", "run"):
        name = f"scale/waiting/async, {{}}/{phase}, x a tenth as many"
        assert judged(figures[name.format(1_000)]) is None
        assert judged(figures[name.format(10_000)]) == word
    assert sum(cell.endswith(f": {word}") for row in table.rows for cell in row) == 2
    assert figures["scale/waiting/async, 10000/bytes"].estimate.value == 2_000
    assert not any(name.endswith("1000/bytes") for name in figures)


def test_exchanges_have_no_time_of_their_own_for_the_run() -> None:
    found = replace(SMALL, run=[])
    result = Result({("exchanges", "sync", 1): found, ("exchanges", "sync", 10): found})
    [table] = tables(result, seed=1)
    assert [row[3:5] for row in table.rows] == [["-", "-"], ["-", "-"]]
    assert found.per_callback == 10e3


def test_what_is_left_out_or_cut_is_told_where_it_belongs() -> None:
    result = Result({("one exchange", "async", 1): SMALL, ("waiting", "async", 1): SMALL})
    result.left_out["waiting", "async", 1_000_000] = "it would take 90 s, and 20 s are left"
    one, waiting = (table.render() for table in tables(result, seed=1, is_cut=True))
    assert "left out" not in one
    assert "async, 1,000,000: left out, it would take 90 s, and 20 s are left." in waiting
    assert "INTERRUPTED" in one


@pytest.mark.parametrize(
    ("before", "seconds", "why"),
    [
        (times(1), 15.1, None),
        (times(1), 14.9, "it would take 15 s, and 15 s are left"),
        (times(1), -3.0, "it would take 15 s, and 0 s are left"),
        (times(1, weight=4_000.0), 20.0, None),
        (times(1, weight=5_000.0), 20.0, "it would take 4.7 GiB, and 8.0 GiB are free"),
        (None, 20.0, "so was a tenth as many"),
    ],
)
def test_a_million_needs_time_and_memory(
    before: Found | None, seconds: float, why: str | None
) -> None:
    assert why_not(1_000_000, before, seconds, FREE) == why


def test_the_memory_that_is_free_can_be_told() -> None:
    assert scale.free_memory() > 2**20


def test_a_worker_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'no shape'"):
        scale.measured("no shape", "async", [1])


def test_the_large_ones_come_last_and_those_without_time_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, list[int]]] = []

    def measured(shape: str, kind: str, sizes: list[int]) -> list[Found]:
        asked.append((kind, sizes))
        return [SMALL for _ in sizes]

    monkeypatch.setattr(scale, "measured", measured)
    cells: list[Cell] = [
        ("waiting", kind, size) for size in scale.SIZES[3:] for kind in scale.KINDS
    ]
    result, steps = Result(), list[float]()
    scale.measure(cells, 5.0, result, steps.append)
    # 15 µs each: a million would take 15 s.
    assert asked == [(kind, [size]) for size in scale.SIZES[3:6] for kind in scale.KINDS]
    assert list(result.found) == cells[:6]
    assert list(result.left_out) == cells[6:]
    assert sum(steps) == len(cells)


def test_the_report_gives_it_options_that_it_has() -> None:
    parser = argparse.ArgumentParser()
    scale.add_arguments(parser)
    step = report_command.STEPS["scale"]
    assert 60 <= parser.parse_args(step.full.split()).seconds <= 150
    assert parser.parse_args(step.quick.split()).to is None


@soak
def test_a_hundred(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    ended = run_bench("scale", "--to", "100", "--json", path, timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [run] = runs.read(path).runs
    assert run.state == "complete"
    rows = [f"{kind}, {size}" for kind in ("async", "sync") for size in (1, 10, 100)]
    assert [[row[0] for row in table.rows] for table in run.tables] == [rows] * 3
    figures = {figure.name: figure.estimate for table in run.tables for figure in table.figures}
    for row in rows:
        for shape, phases in (("one exchange", 2), ("exchanges", 1), ("waiting", 2)):
            for phase in ("register", "run")[:phases]:
                found = figures[f"scale/{shape}/{row}/{phase}"]
                # A callback takes microseconds, not nothing and not seconds.
                assert 100 < found.low <= found.value <= found.high < 1e8
    assert all(figure.aim is None for table in run.tables for figure in table.figures)


@soak
def test_ctrl_c_ends_the_worker_and_keeps_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    # The large ones of this shape take seconds.
    with on_a_terminal("scale", "--shape", "exchanges", "--json", path) as it:
        it.wait_for(rb"[6-9]\d %", 60)
        it.end(signal.SIGINT)
        assert it.process.returncode == 130, it.output()
    [run] = runs.read(path).runs
    assert run.state == "interrupted"
    [table] = run.tables
    assert "INTERRUPTED" in table.render()
    assert {row[0] for row in table.rows} >= {"async, 1,000", "sync, 1,000"}
