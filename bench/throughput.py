"""Requests per second of a Django app with and without the wrapper, without callbacks."""

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from . import servers
from .asgi_servers import SERVERS
from .client import request
from .openloop import OpenLoop, Stream
from .progress import tracking
from .report import Table, interval
from .results import Figure
from .stats import Estimate, estimate, ratios
from .summary import judged

SERVER = "uvicorn-httptools"
WITHOUT, CONTROL, NOTHING, WRAPPED = "without", "control", "nothing", "wrapped"
"""Query strings of equal length; to the first two the app is the same."""
TITLES = {
    WITHOUT: "Django alone",
    CONTROL: "control: Django alone again",
    NOTHING: "Django behind a do-nothing wrapper",
    WRAPPED: "Django behind the wrapper",
}
CONNECTIONS = 8
REQUESTS = 100
"""In a slice: a few hundredths of a second, so that the contenders share their luck."""
ROUNDS, QUICK_ROUNDS, WARM_UP = 200, 15, 3
AIM = 0.01
"""Of the throughput may be lost."""


def run(args: argparse.Namespace) -> Iterator[Table]:
    rounds = args.slices or (QUICK_ROUNDS if args.quick else ROUNDS)
    server = SERVERS[SERVER].at(SERVER, "bench.apps:either_app")
    rates: dict[str, list[float]] = {name: [] for name in TITLES}
    try:
        with (
            servers.running(server, pin=servers.can_pin()) as port,
            OpenLoop(port, burst=0, connections=CONNECTIONS) as client,
            tracking("throughput", WARM_UP + rounds) as done,
        ):
            for number in range(-WARM_UP, rounds):
                # In another order each time.
                taken = {
                    name: _rate(client, name)
                    for name in random.Random(args.seed + number).sample([*TITLES], len(TITLES))
                }
                if number >= 0:
                    for name, rate in taken.items():
                        rates[name].append(rate)
                done(1)
    except (KeyboardInterrupt, SystemExit):
        if rates[WITHOUT]:
            yield table(server.name, rates, args.seed)
        raise
    yield table(server.name, rates, args.seed)


def _rate(client: OpenLoop, name: str) -> float:
    """Requests per second: all of them are due at once, and share the connections."""
    [latencies] = client.measure_streams(Stream(request(f"/none?{name}"), [0.0] * REQUESTS))
    return REQUESTS / max(latencies)


def _lost(ratio: Estimate) -> Estimate:
    """The share that a ratio is below 1."""
    return Estimate(1 - ratio.value, 1 - ratio.high, 1 - ratio.low)


def table(server: str, rates: Mapping[str, Sequence[float]], seed: int) -> Table:
    rows, figures = [], []
    error = _lost(ratios(rates[CONTROL], rates[WITHOUT], seed))
    for name, samples in rates.items():
        ratio = ratios(samples, rates[WITHOUT], seed)
        per_second = estimate(samples, seed)
        path = f"idle/throughput/{TITLES[name]}"
        baseline = median(rates[WITHOUT])
        figures.append(Figure(f"{path}/per second", "count", per_second, baseline, "higher"))
        row = [TITLES[name], interval(per_second, "{:.0f}"), interval(ratio, "{:.4f}"), "-"]
        if name == WRAPPED:
            lost = Figure(f"{path}/lost", "share", _lost(ratio), aim=AIM, control=error)
            figures.append(lost)
            row[-1] = f"at least {1 - AIM:g}: {judged(lost)}"
        elif name == WITHOUT:
            row[2] = "-"
        rows.append(row)
    notes = [
        f"One process, {CONNECTIONS} connections, closed loop; {len(rates[WITHOUT])} interleaved"
        f" rounds of {REQUESTS} requests each; [...] is the",
        "95 % interval of the median; of the ratio, round by round.",
    ]
    columns = ("", "requests per second", "x alone", "aim")
    return Table(f"Throughput without callbacks: {server}", columns, rows, notes, figures)
