"""R1 under load: threads, destructors, weakref callbacks, signal handlers, and all register.

``STRESS=seconds`` says for how long the thorough one goes on. Each runs in a process of its own:
one that stands still ends, and shows its stacks.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .stress import STANDSTILL

ROOT = Path(__file__).parents[2]


def stress(seconds: float, at_least: int) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.core.stress", str(seconds), str(at_least)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds + 2 * STANDSTILL,
    )
    print(process.stdout)
    assert process.returncode == 0, process.stderr
    assert "registered" in process.stdout


@pytest.mark.exhaustive
@pytest.mark.timeout(400)
def test_a_little() -> None:
    stress(1.0, 1000)


@pytest.mark.skipif("STRESS" not in os.environ, reason="STRESS=600, say: so many seconds")
@pytest.mark.timeout(3600)
def test_a_lot() -> None:
    """100,000 registrations, cancels, keys and waits."""
    stress(float(os.environ["STRESS"]), 100_000)
