"""``bench latency --wsgi`` runs, and its verdict can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.stats import Estimate
from bench.wsgi_latency import NOT_LATER, judge

ROOT = Path(__file__).parents[1]


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
