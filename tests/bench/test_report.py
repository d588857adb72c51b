"""``bench report``: what it keeps, what it says of aims, and what differs from another run."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bench import compare, report_markdown, runs, summary
from bench.report import Table, facts
from bench.results import SHARES, Figure, count, curve
from bench.runs import Results, Run
from bench.stats import Estimate

from ..required import soak
from .terminal import run_bench

ROOT = Path(__file__).parents[2]
MACHINE = {
    "processor": "A 1",
    "cores": 2,
    "platform": "Linux",
    "python": "CPython 3.13.0",
    "versions": {"uvicorn": "0.54.0"},
}
QUIET, NOISY = Estimate(0.0, -10e-6, 10e-6), Estimate(0.0, -80e-6, 60e-6)
ROWS = ("control: none", "async sleep 1 s", "sync sleep 1 s")
FIGURES = ("complete response", "next request", "EOF after close")


def added(low: float, high: float, control: Estimate = QUIET) -> Figure:
    """Microseconds."""
    estimate = Estimate((low + high) / 2e6, low / 1e6, high / 1e6)
    return Figure("latency/a/b/c", "s", estimate, baseline=1e-3, aim=50e-6, control=control)


def latency() -> Table:
    figures, curves = [], []
    for index, server in enumerate(("uvicorn httptools", "daphne")):
        for row in ROWS:
            for name in FIGURES:
                path = f"latency/{server}/{row}/{name}"
                figures.append(replace(added(-5, 20 + 40 * index), name=path))
                samples = [1e-3 + i * 1e-5 for i in range(50)]
                curves += [curve(f"{path}/{side}", "s", samples) for side in ("without", "with")]
    rows = [["async | sleep", "1 [0, 2]"]]
    return Table("one: what it adds", ("callback", "added"), rows, ["A note."], figures, curves)


def rivals() -> Table:
    shares = {"async_after": 0.0, "create_task": 0.004, "nothing_else": 1}
    figures = [
        Figure(f"rivals/{way}/async/{column}", "share", count(share))
        for way, share in shares.items()
        for column in ("lost: SIGTERM", "failure logged")
    ]
    return Table("losses", ("way",), [[way] for way in shares], figures=figures)


def interference() -> Table:
    figures = [
        Figure(
            f"interference/{way}/{kind}, {rate} per second/p99",
            "s",
            Estimate(p99 * 1e-3, p99 * 0.9e-3, p99 * 1.2e-3),
        )
        for way, kinds, p99 in (
            ("nothing", ["none"], 2),
            ("async_after", ["sync CPU", "sync sleep"], 6),
            ("starlette", ["sync CPU"], 20),
        )
        for kind in kinds
        for rate in (100, 250)
    ]
    return Table("interference", ("way",), [], figures=figures)


def of(*tables: Table, name: str = "latency", **more: object) -> Results:
    run = Run(name, name, {"seed": 7, "quick": True}, "abc1234", "2030-01-01T00:00:00+00:00", 0.5)
    run.tables = list(tables)
    for key, value in more.items():
        setattr(run, key, value)
    return Results(MACHINE, [run])


def figures(*found: Figure) -> Results:
    return of(Table("t", ("a",), [], figures=found))


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    results = of(latency(), rivals())
    path = tmp_path / "new" / "results.json"
    results.write(path)
    again = runs.read(path)
    assert again.machine == results.machine
    assert list(again.figures()) == list(results.figures())
    assert [list(c.values) for c in again.curves()] == [
        [pytest.approx(value, rel=1e-4) for value in c.values] for c in results.curves()
    ]
    assert [t.render() for t in again.runs[0].tables] == [
        t.render() for t in results.runs[0].tables
    ]
    assert len(json.loads(path.read_text())["runs"][0]["tables"][0]["curves"][0]["values"]) == len(
        SHARES
    )
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"format": 0}')
    with pytest.raises(ValueError, match="format 0"):
        runs.read(path)


@pytest.mark.parametrize(
    ("figure", "word"),
    [
        (added(-5, 50), "met"),
        (added(-5, 50.001), "missed"),
        (added(-5, 20, NOISY), "too noisy to tell"),
        (added(-5, 300, NOISY), "too noisy to tell"),
        # However restless the machine was: this is more than its error.
        (added(81, 300, NOISY), "missed"),
        (replace(added(5, 20), aim=None), None),
        (Figure("a", "share", Estimate(0.995, 0.99, 1.0), better="higher", aim=0.99), "met"),
        (Figure("a", "share", Estimate(0.995, 0.98, 1.0), better="higher", aim=0.99), "missed"),
    ],
)
def test_an_aim_is_met_by_the_whole_interval_only(figure: Figure, word: str | None) -> None:
    assert summary.judged(figure) == word


def test_what_misses_its_aim_comes_first() -> None:
    found = [
        replace(added(0, 10), name="good"),
        replace(added(0, 10, NOISY), name="unknown"),
        replace(added(0, 70), name="bad"),
        replace(added(0, 70), name="no aim", aim=None),
    ]
    table = summary.aims(found)
    assert [row[0] for row in table.rows] == ["bad", "unknown", "good"]
    assert table.rows[0][1:] == ["35 [0, 70] µs", "at most 50 µs", "missed"]
    assert table.notes[0] == "Of 3 aims: 1 missed, 1 too noisy to tell, 1 met."


@pytest.mark.parametrize(
    ("old", "new", "better", "word"),
    [
        ((1.0, 2.0), (2.0, 3.0), "lower", None),
        ((1.0, 2.0), (2.1, 3.0), "lower", "worse"),
        ((2.1, 3.0), (1.0, 2.0), "lower", "better"),
        ((1.0, 2.0), (2.1, 3.0), "higher", "better"),
        ((2.1, 3.0), (1.0, 2.0), "higher", "worse"),
    ],
)
def test_only_intervals_that_do_not_overlap_are_a_change(
    old: tuple[float, float], new: tuple[float, float], better: str, word: str | None
) -> None:
    before, after = (
        figures(Figure("f", "x", Estimate(sum(ends) / 2, *ends), better=better))  # type: ignore[arg-type]
        for ends in (old, new)
    )
    table = compare.table(before, after, "old.json")
    assert [row[-1] for row in table.rows] == ([word] if word else [])
    if word:
        assert f"[{old[0]:g}, {old[1]:g}]" in table.rows[0][1]
        assert f"[{new[0]:g}, {new[1]:g}]" in table.rows[0][2]


def test_a_comparison_says_what_cannot_be_compared() -> None:
    before = figures(Figure("gone", "x", count(1)), Figure("unit", "x", count(1)))
    after = figures(Figure("new", "x", count(1)), Figure("unit", "s", count(2)))
    after.machine = {**MACHINE, "processor": "B 2", "versions": {"uvicorn": "0.55.0"}}
    table = compare.table(before, after, "old.json")
    assert not table.rows
    notes = "\n".join(table.notes)
    for said in ("0 figures are in both", "old results: gone", "new results: new"):
        assert said in notes
    assert "ANOTHER processor: A 1 then, B 2 now." in notes
    assert "uvicorn: 0.54.0 then, 0.55.0 now." in notes


def test_the_report_says_what_is_not_complete() -> None:
    results = of(latency(), state="failed", message="exit code 1", seconds=3.2)
    text = report_markdown.render(results, [summary.aims(results.figures())], {"a.png": "A plot"})
    assert "**FAILED**: exit code 1" in text
    assert "| latency | failed | abc1234 | 2030-01-01T00:00:00+00:00 | 3 | 0.50 |" in text
    assert "--seed 7 --quick" in text
    assert "![A plot](a.png)" in text
    assert r"| async \| sleep | 1 [0, 2] |" in text
    assert "Of 18 aims: 9 missed, 0 too noisy to tell, 9 met." in text


def test_the_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench import plots

    written = plots.write(of(latency(), rivals(), interference()), tmp_path)
    names = "latency-added", "latency-cdf", "latency-cdf-all", "rivals-loss", "interference"
    for name in names:
        assert f"{name}.png" in written
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
        assert "Good:" in _texts(tmp_path / f"{name}.svg")
    # Nothing is rounded to none, nor to all.
    told = _texts(tmp_path / "rivals-loss.svg")
    assert "<!-- 1 % -->" in told
    assert "<!-- 100 % -->" in told
    assert "fill: #a02010" in told  # all of them lost
    assert plots.write(of(Table("t", ("a",), [])), tmp_path) == {}


def _texts(path: Path) -> str:
    """matplotlib draws letters as paths, and says as comments what they are."""
    return path.read_text(encoding="utf-8")


@soak
def test_a_report_of_what_is_there(tmp_path: Path) -> None:
    """Missed aims and what has become worse are no error."""
    figures(added(-5, 20)).write(tmp_path / "old.json")
    figures(added(60, 90)).write(tmp_path / "new.json")
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    ended = report(f"--from={new}", f"--out={tmp_path}", f"--compare={old}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 missed" in ended.stdout
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| latency/a/b/c | 7.5 [-5, 20] µs | 75 [60, 90] µs | worse |" in text
    assert list(runs.read(tmp_path / "results.json").figures()) == [added(60, 90)]


@soak
def test_one_subcommand_again(tmp_path: Path) -> None:
    """The others' runs stay, if they are of this machine."""
    there = of(figures_of("soak"), name="soak")
    there.runs += of(figures_of("idle"), name="idle").runs
    there.machine = facts()
    there.write(tmp_path / "results.json")
    options = "--only", "idle", "--quick", "--keep", f"--out={tmp_path}"
    ended = report(*options)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = runs.read(tmp_path / "results.json")
    assert [(run.name, run.commit == "abc1234") for run in found.runs] == [
        ("soak", True),
        ("idle", False),
    ]
    assert {figure.name for figure in found.figures()} >= {"soak", "idle/async_after/per exchange"}
    there.machine = MACHINE
    there.write(tmp_path / "results.json")
    ended = report(*options)
    assert ended.returncode != 0
    assert "another machine" in ended.stderr


def figures_of(name: str) -> Table:
    return Table("t", ("a",), [["b"]], figures=[Figure(name, "x", count(1))])


def report(*options: str) -> "subprocess.CompletedProcess[str]":
    return run_bench("report", *options, timeout=60)
