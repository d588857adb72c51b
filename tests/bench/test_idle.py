"""``bench idle``: what its verdict on the throughput says, and a real server behind it."""

import argparse
from collections.abc import Mapping

import pytest

from bench import throughput
from bench.throughput import CONTROL, WITHOUT, WRAPPED

from ..required import soak


def rates(control: float, wrapped: float) -> Mapping[str, list[float]]:
    without = [1000.0, 1010.0, 990.0, 1005.0, 995.0] * 4
    shares = {WITHOUT: 1.0, CONTROL: control, WRAPPED: wrapped}
    return {name: [rate * share for rate in without] for name, share in shares.items()}


@pytest.mark.parametrize(
    ("control", "wrapped", "verdict"),
    [
        (1.0, 0.995, "at least 0.99: met"),
        (1.0, 1.02, "at least 0.99: met"),
        (1.0, 0.985, "at least 0.99: missed"),
        (0.98, 0.985, "at least 0.99: too noisy to tell"),
        (1.02, 0.985, "at least 0.99: too noisy to tell"),
        (1.02, 0.97, "at least 0.99: missed"),
    ],
)
def test_the_verdict(control: float, wrapped: float, verdict: str) -> None:
    table = throughput.table("server", rates(control, wrapped), seed=1)
    assert [row[-1] for row in table.rows] == ["-", "-", verdict]


@soak
def test_a_real_server() -> None:
    args = argparse.Namespace(slices=2, quick=True, seed=1)
    [table] = throughput.run(args)
    found = {figure.name: figure.estimate.value for figure in table.figures}
    per_second = [value for name, value in found.items() if name.endswith("/per second")]
    assert len(per_second) == 4
    assert min(per_second) > 0
    assert found["idle/throughput/Django behind the wrapper/lost"] < 0.9
