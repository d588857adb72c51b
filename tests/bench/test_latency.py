"""``bench latency`` runs, its verdict can fail, and Ctrl-C keeps what was measured."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench import latency_table, runs
from bench.latency_measure import Pairs
from bench.stats import Estimate
from bench.wsgi_latency import NOT_LATER, judge

from ..required import soak
from .terminal import ROOT, on_a_terminal


@pytest.mark.parametrize(
    ("added", "verdict"),
    [
        (Estimate(10e-6, -5e-6, 200e-6), NOT_LATER),
        (Estimate(10e-6, 5e-6, 45e-6), NOT_LATER),
        (Estimate(90e-6, 50e-6, 130e-6), "later by 90 µs"),
        (Estimate(1.0, 0.99, 1.01), "WAITS 1.00 s"),
        (Estimate(0.4, -0.1, 1.01), "WAITS 0.40 s"),
    ],
)
def test_the_verdict(added: Estimate, verdict: str) -> None:
    assert judge(added, 1e-3, 60) == verdict


@pytest.mark.parametrize(
    ("control", "added", "baseline", "verdicts"),
    [
        (0.0, 40e-6, 1e-3, ["quiet", "met"]),
        (0.0, 60e-6, 1e-3, ["quiet", "missed"]),
        (0.0, 60e-6, 4e-3, ["quiet", "met"]),  # 2 % of the median are 80 µs
        (70e-6, 0.0, 1e-3, ["noisy", "noisy"]),
        (-70e-6, 60e-6, 1e-3, ["noisy", "noisy"]),
        (70e-6, 90e-6, 1e-3, ["noisy", "missed"]),
    ],
)
def test_the_aim_under_asgi(
    control: float, added: float, baseline: float, verdicts: list[str]
) -> None:
    def pairs(more: float) -> Pairs:
        return Pairs([baseline] * 20, [baseline + more] * 20)

    samples = {("none", "next request"): pairs(control), ("async", "next request"): pairs(added)}
    table = latency_table.table("title", "server", samples, 40, seed=1)
    assert [row[-1] for row in table.rows] == verdicts
    assert [figure.name for figure in table.figures] == [
        "latency/server/control: none/next request",
        "latency/server/async sleep 1 s/next request",
    ]


@soak
@pytest.mark.parametrize(("lane", "waits"), [("threads", False), ("inline", True)])
def test_a_server(lane: str, waits: bool) -> None:
    """Only inline do the next request and EOF wait for the callback."""
    command = ["latency", "--wsgi", "--server", "gunicorn-gthread", "--pairs", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *command, "--lane", lane],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for figure in ("next request", "EOF after close"):
        for callback in ("async", "sync"):
            [line] = [
                line
                for line in ended.stdout.splitlines()
                if line.startswith(f"{callback} sleep") and figure in line
            ]
            assert ("WAITS" in line) is waits, ended.stdout


@pytest.mark.usefixtures("server_processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_keeps_what_was_measured(
    number: signal.Signals, tmp_path: Path
) -> None:
    path = tmp_path / "found.json"
    options = ["--server", "uvicorn-httptools", "--app", "bare", "--pairs", "1000"]
    with on_a_terminal("latency", *options, "--json", path) as it:
        it.wait_for(rb"[1-9]\d* %")
        it.end(number)
        assert it.process.returncode == (130 if number == signal.SIGINT else 143), it.output()
    [run] = runs.read(path).runs
    assert run.state == "interrupted"
    [table] = run.tables
    assert len(table.figures) == 9
    assert "INTERRUPTED" in table.render()
    assert "uvicorn httptools, bare app" in it.output()


@soak
def test_ctrl_c_in_a_report_does_too(tmp_path: Path) -> None:
    with on_a_terminal("report", "--only", "latency", "--quick", "--out", tmp_path) as it:
        it.wait_for(rb"[1-9]\d* %")
        it.end(signal.SIGINT)
        assert it.process.returncode == 130, it.output()
    [run] = runs.read(tmp_path / "results.json").runs
    assert (run.name, run.state) == ("latency", "interrupted")
    assert run.tables
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**INTERRUPTED**" in report
