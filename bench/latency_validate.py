"""``latency --validate``: is our own client right?

Against wrk and httpx, all with one connection in a closed loop and in turn;
and against delays that are known: an app that is late by so many microseconds.
"""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

from . import servers
from .asgi_servers import SERVERS
from .client import Connection, request
from .progress import tracking
from .report import Table, interval
from .results import Figure
from .stats import differences, estimate, quantile, ratios

SERVER = "uvicorn-httptools"
OURS = "our client"
LATE = (0, 20, 50, 100, 200, 1000)
"""Microseconds."""
_SCRIPT = """
done = function(summary, latency, requests)
  io.write(string.format("\\nPERCENTILES %f %f\\n", latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(slots=True)
class Taken:
    """Seconds, an item a round; and of the client's own CPU time, a request."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


Contender = Callable[[int, float], tuple[float, float, float]]
"""Given port and seconds: p50, p99 and CPU seconds per request."""


def run(args: argparse.Namespace) -> Iterator[Table]:
    rounds, pairs = (2, 40) if args.quick else (10, 400)
    application = f"bench.apps:{args.app}_app"
    server = SERVERS[SERVER].at(SERVER, application)
    with servers.running(server, pin=args.pin) as port:
        contenders = dict(_contenders())
        yield _clients(f"{server.name}, {args.app} app", port, contenders, rounds, args.seed)
        yield _delays(f"{server.name}, {args.app} app", port, pairs, args.seed)


def _contenders() -> Iterator[tuple[str, Contender]]:
    yield OURS, _ours
    if shutil.which("wrk"):
        yield "wrk", _wrk
    else:
        print("\nwrk: skipped, it is not installed", file=sys.stderr)
    if importlib.util.find_spec("httpx"):
        yield "httpx", _httpx
    else:
        print("\nhttpx: skipped, it is not installed", file=sys.stderr)


def _ours(port: int, seconds: float) -> tuple[float, float, float]:
    sent, until = request("/none"), time.monotonic() + seconds
    with Connection(port) as connection:
        samples, cpu = [], time.thread_time()
        while time.monotonic() < until:
            samples.append(connection.complete(sent))
        cpu = time.thread_time() - cpu
    return median(samples), quantile(samples, 0.99), cpu / len(samples)


def _httpx(port: int, seconds: float) -> tuple[float, float, float]:
    import httpx

    url, until = f"http://127.0.0.1:{port}/none", time.monotonic() + seconds
    with httpx.Client(trust_env=False) as client:
        client.get(url)
        samples, cpu = [], time.thread_time()
        while time.monotonic() < until:
            began = time.perf_counter()
            client.get(url).raise_for_status()
            samples.append(time.perf_counter() - began)
        cpu = time.thread_time() - cpu
    return median(samples), quantile(samples, 0.99), cpu / len(samples)


def _wrk(port: int, seconds: float) -> tuple[float, float, float]:
    # Whole seconds are all that it knows.
    command = ["wrk", "-t1", "-c1", f"-d{max(1, round(seconds))}s"]
    for line in request("/none").decode().splitlines()[2:-1]:
        command += ["-H", line]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(_SCRIPT)
        script.flush()
        command += ["-s", script.name, f"http://127.0.0.1:{port}/none"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    if "Non-2xx" in told.stdout or "Socket errors" in told.stdout:
        raise RuntimeError(f"wrk met errors:\n{told.stdout}")
    _, p50, p99 = next(
        line.split() for line in told.stdout.splitlines() if line.startswith("PERCENTILES")
    )
    return float(p50) * 1e-6, float(p99) * 1e-6, float("nan")


def _clients(
    title: str, port: int, contenders: Mapping[str, Contender], rounds: int, seed: int
) -> Table:
    taken = {name: Taken() for name in contenders}
    with tracking("clients", rounds) as done:
        for number in range(-1, rounds):  # the first one is warm-up
            names = list(contenders)
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                p50, p99, cpu = contenders[name](port, 1.0)
                if number >= 0:
                    taken[name].p50.append(p50)
                    taken[name].p99.append(p99)
                    taken[name].cpu.append(cpu)
            done(1)
    rows, figures = [], []
    for name, it in taken.items():
        ratio = ratios(it.p50, taken[OURS].p50, seed)
        middle = estimate(it.p50, seed)
        figures.append(Figure(f"validate/{name}/median", "s", middle))
        rows.append(
            [
                name,
                interval(middle.over(1e-6), "{:.0f}"),
                interval(ratio, "{:.3f}"),
                f"{median(it.p99) * 1e6:.0f}",
                "-" if name == "wrk" else f"{median(it.cpu) * 1e6:.0f}",
            ]
        )
    columns = ("client", "median µs", "x ours", "p99 µs", "its own CPU µs")
    notes = [
        f"One keep-alive connection, closed loop; {rounds} interleaved rounds of 1 s each; [...] is"
        " the 95 % interval",
        "of the median over the rounds. wrk is written in C and tells whole microseconds; what ours"
        " is above it",
        "is what Python adds. It is the same on both sides of a pair.",
    ]
    return Table(f"{title}: the client against others", columns, rows, notes, figures)


def _delays(title: str, port: int, pairs: int, seed: int) -> Table:
    """What the method of ``latency`` finds of a delay that is known."""
    samples: dict[int, tuple[list[float], list[float]]] = {late: ([], []) for late in LATE}
    with Connection(port) as connection, tracking("known delays", pairs) as done:
        for number in range(-10, (pairs + 1) // 2):  # the first ones are warm-up
            for late, (without, with_) in samples.items():
                a_1, b_1, b_2, a_2 = (
                    connection.complete(request(f"/late/{n}")) for n in (0, late, late, 0)
                )
                if number >= 0:
                    without += a_1, a_2
                    with_ += b_1, b_2
            done(2)
    rows, figures = [], []
    for late, (without, with_) in samples.items():
        found = differences(with_, without, seed)
        figures.append(Figure(f"validate/late by {late} µs/found", "s", found))
        off = found.value * 1e6 - late
        rows.append([str(late), interval(found.over(1e-6), "{:+.1f}"), f"{off:+.1f}"])
    notes = [
        f"{2 * ((pairs + 1) // 2)} interleaved pairs (A B B A) per line; [...] is the 95 % interval"
        " of the median.",
        "The app is busy for so long before its response, on one side of the pair.",
    ]
    columns = ("late by µs", "found µs", "off by µs")
    return Table(f"{title}: delays that are known", columns, rows, notes, figures)
