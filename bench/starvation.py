"""Does a pile of callbacks starve the requests that come meanwhile?

200 requests at once, each with a callback of 500 ms, on default settings: when
have all callbacks ended, on how many threads, and what are the latencies of
plain requests at a fixed rate until then, compared to those behind the same
200 requests without callbacks?
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from . import servers
from .client import Connection, request
from .openloop import Measured, OpenLoop, schedule
from .report import Table, interval, verdict
from .results import Figure, count, curve
from .stats import differences, quantile, ratios

BURST = 200
CONNECTIONS = 120
"""For the plain requests; those that wait behind the burst have one each."""
FEWEST = 50
"""Plain requests on each side of a pair: of fewer there is no p99 worth the name."""
AIM_SECONDS = 4.0
DEADLINE = 60.0
NAMES = {"sync": "sync sleep 500 ms", "async": "async sleep 500 ms", "none": "control: none"}
WINDOWS = ("from the burst on", "behind the burst")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help="default 10; --quick 1")
    parser.add_argument("--rate", type=float, default=250.0, help="plain requests a second (250)")
    parser.add_argument("--http", choices=("httptools", "h11"), default="httptools")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--pin", action="store_true", help="one core each for client and server")


@dataclass(frozen=True, slots=True)
class State:
    """What the app tells of its callbacks."""

    registered: int
    ended: int
    last_ended: float
    threads: int
    seconds: float
    """What a callback takes."""
    limit: int
    max_threads: int


@dataclass(slots=True)
class Half:
    """One burst, and the plain requests from then on."""

    measured: Measured
    seconds: float = 0.0
    """Until the last callback had ended."""

    def latencies(self, since: float, until: float) -> list[float]:
        return [s.latency for s in self.measured.samples if since <= s.due <= until]


@dataclass(slots=True)
class Pairs:
    """Latencies without and with callbacks; items of equal index were taken together."""

    without: list[list[float]] = field(default_factory=list)
    with_: list[list[float]] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    pairs: dict[tuple[str, str], Pairs] = field(
        default_factory=lambda: {(kind, window): Pairs() for kind in NAMES for window in WINDOWS}
    )
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"sync": [], "async": []})
    callbacks: int = 0
    threads: int = 0
    max_threads: int = 0

    def add(self, kind: str, without: Half, with_: Half, until: float) -> None:
        # The same moments on both sides: where one is still at work on the
        # burst, neither counts as behind it.
        settled = max(without.measured.settled, with_.measured.settled)
        for window, since in zip(WINDOWS, (0.0, settled), strict=True):
            pairs = self.pairs[kind, window]
            sides = without.latencies(since, until), with_.latencies(since, until)
            # On a busy machine the callbacks may have ended before the burst was over.
            if min(map(len, sides)) >= FEWEST:
                pairs.without.append(sides[0])
                pairs.with_.append(sides[1])


def run(args: argparse.Namespace) -> Iterator[Table]:
    rounds = args.rounds or (1 if args.quick else 10)
    # A busy machine may take longer than uvicorn's 5 s to open all connections.
    keep_alive = "--timeout-keep-alive", "60"
    server = servers.uvicorn(
        "bench.starvation_app:app", *keep_alive, http=args.http, loop=args.loop
    )
    with servers.running(server, pin=args.pin) as port:
        result = measure(port, rounds, args.rate, args.seed)
    title = f"{server.name}, {args.loop}, {BURST} requests at once"
    yield _latencies(f"{title}: plain requests at {args.rate:g}/s meanwhile", result, args.seed)
    yield _ends(f"{title}: their callbacks", result)


def measure(port: int, rounds: int, rate: float, seed: int) -> Result:
    result = Result()
    state = _state(port)
    slots = {"sync": min(state.max_threads, state.limit), "async": state.limit}
    windows = {
        kind: min(AIM_SECONDS, math.ceil(BURST / at_once) * state.seconds + 0.5)
        for kind, at_once in slots.items()
    }
    _half(port, "sync", schedule(rate, 0.5, seed))  # warm-up: all threads are there
    for number in range(rounds):
        for kind, seconds in windows.items():
            if sys.stderr.isatty():
                print(f"\rround {number + 1} of {rounds} ", end="", file=sys.stderr, flush=True)
            # The same moments on both sides, others in each round.
            due = schedule(rate, seconds, seed + number)
            with_1, without_1, without_2, with_2 = (
                _half(port, name, due) for name in (kind, "none", "none", kind)
            )
            # As long as callbacks ran, and as long on the other side.
            for without, with_ in ((without_1, with_1), (without_2, with_2)):
                result.add(kind, without, with_, with_.seconds)
            result.add("none", without_1, without_2, (with_1.seconds + with_2.seconds) / 2)
            result.seconds[kind] += [with_1.seconds, with_2.seconds]
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    state = _state(port)
    result.callbacks = state.ended
    result.threads, result.max_threads = state.threads, state.max_threads
    return result


def _half(port: int, kind: str, due: Sequence[float]) -> Half:
    before = _state(port).registered
    with OpenLoop(port, burst=BURST, connections=CONNECTIONS) as client:
        client.warm_up(request("/plain"))
        half = Half(client.measure(request(f"/{kind}"), request("/plain"), due))
    until = time.monotonic() + DEADLINE
    while (state := _state(port)).ended < state.registered:
        if time.monotonic() > until:
            raise RuntimeError(f"only {state.ended} of {state.registered} callbacks ran")
        time.sleep(0.05)
    expected = 0 if kind == "none" else BURST
    if state.registered - before != expected:
        raise RuntimeError(f"{state.registered - before} callbacks registered, not {expected}")
    if expected:
        half.seconds = state.last_ended - half.measured.began
    return half


def _state(port: int) -> State:
    with Connection(port) as connection:
        return State(**json.loads(connection.get("/state")))


def _latencies(title: str, result: Result, seed: int) -> Table:
    rows, figures, curves = [], [], []
    for (kind, window), pairs in result.pairs.items():
        if not pairs.with_:
            rows.append([NAMES[kind], window, "0", *["-"] * 6])
            continue
        sides = [[x for half in side for x in half] for side in (pairs.without, pairs.with_)]
        p99s = [[quantile(half, 0.99) for half in side] for side in (pairs.without, pairs.with_)]
        ratio = ratios(p99s[1], p99s[0], seed)
        added = differences(p99s[1], p99s[0], seed)
        path = f"starvation/{NAMES[kind]}/{window}"
        figures += [
            Figure(f"{path}/x p99", "x", ratio),
            Figure(f"{path}/added to p99", "s", added, median(p99s[0])),
        ]
        if kind != "none":
            low = count(ratio.low)
            figures.append(Figure(f"{path}/x p99, lower end of the interval", "x", low, aim=1.0))
        curves += [
            curve(f"{path}/{side}", "s", latencies)
            for side, latencies in zip(("without", "with"), sides, strict=True)
        ]
        rows.append(
            [
                NAMES[kind],
                window,
                f"{len(sides[1])} in {len(pairs.with_)}",
                *(
                    " / ".join(f"{quantile(side, share) * 1e3:.1f}" for side in sides)
                    for share in (0.5, 0.99, 0.999)
                ),
                interval(added.over(1e-3), "{:+.2f}"),
                interval(ratio),
                "-" if kind == "none" else verdict(ratio.low <= 1.0),
            ]
        )
    columns = ["callbacks", "plain requests", "in pairs", "p50 ms", "p99 ms", "p99.9 ms"]
    columns += ["added to p99 ms", "x p99", "aim"]
    notes = [
        "p50, p99, p99.9: without / with callbacks, of all rounds together. The difference and the",
        "ratio of the p99 are medians of the interleaved pairs (A B B A), with their 95 %",
        "intervals. Counted until the last callback ends; latency from when a request was due.",
        "Behind the burst: what is due when all that it had held up is answered, on both sides.",
        "Aim: the interval of the ratio reaches down to 1 or below. A wide one proves little: its",
        "upper end is what the run could not exclude, and the control is the method's own error.",
    ]
    return Table(title, columns, rows, notes, figures, curves)


def _ends(title: str, result: Result) -> Table:
    rows, figures = [], []
    for kind, seconds in result.seconds.items():
        has_ended = max(seconds) <= AIM_SECONDS
        middle, worst = f"{median(seconds):.2f}", f"{max(seconds):.2f}"
        path = f"starvation/{NAMES[kind]}/end of the last callback, worst"
        figures.append(Figure(path, "s", count(max(seconds)), aim=AIM_SECONDS))
        rows.append(
            [NAMES[kind], middle, worst, f"at most {AIM_SECONDS:g} s: {verdict(has_ended)}"]
        )
    most = result.max_threads
    aim = f"at most {most}: {verdict(result.threads <= most)}"
    figures.append(Figure("starvation/worker threads", "count", count(result.threads), aim=most))
    rows.append(["worker threads", "-", str(result.threads), aim])
    notes = [
        f"Seconds from the burst to the end of its last callback. {result.callbacks} callbacks",
        "were registered, and as many ran. Threads: all of the runner's that were ever seen.",
    ]
    return Table(title, ("", "median", "worst", "aim"), rows, notes, figures)
