"""Does a callback that takes a second make the client wait?

A table per server: how much later, with a callback than without one, come the
complete response, the next request's response on the same connection, and EOF
with "Connection: close". ``--wsgi``: under WSGI servers, in the lane that is
the default there, or in another one.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from . import servers, wsgi_latency
from .client import Connection, request
from .report import Table, interval, verdict
from .stats import differences

ROWS = {"none": "control: none", "async": "async sleep 1 s", "sync": "sync sleep 1 s"}
FIGURES = ("complete response", "next request", "EOF after close")
WARM_UP = 1.5
AIM_SHARE, AIM_SECONDS = 0.02, 50e-6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, help="per figure (default 1000; --quick 150)")
    parser.add_argument("--http", choices=("httptools", "h11", "both"), default="httptools")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--app", choices=("django", "bare", "both"), default="django")
    wsgi_latency.add_arguments(parser)
    parser.add_argument("--pin", action="store_true", help="one core each for client and server")


@dataclass(slots=True)
class Pairs:
    """Seconds without and with a callback; items of equal index were taken together."""

    without: list[float] = field(default_factory=list)
    with_: list[float] = field(default_factory=list)


Samples = dict[tuple[str, str], Pairs]


def run(args: argparse.Namespace) -> Iterator[Table]:
    if args.wsgi:
        yield from wsgi_latency.run(args)
        return
    pairs = args.pairs or (150 if args.quick else 1000)
    for app in ("django", "bare") if args.app == "both" else (args.app,):
        for http in ("httptools", "h11") if args.http == "both" else (args.http,):
            server = servers.uvicorn(f"bench.apps:{app}_app", http=http, loop=args.loop)
            with servers.running(server, pin=args.pin) as port:
                samples, callbacks = measure(port, pairs)
            title = f"{server.name}, {args.loop}, {app} app: what a callback of 1 s adds"
            yield _table(title, samples, callbacks, args.seed)


def measure(port: int, pairs: int) -> tuple[Samples, int]:
    """All samples, and how many callbacks ran for them."""
    samples: Samples = {(row, figure): Pairs() for row in ROWS for figure in FIGURES}
    with Connection(port) as kept:
        # Callbacks are under way all the time, in all rows alike; here their
        # number, and that of the threads, comes to what it will stay at.
        until = time.monotonic() + WARM_UP
        while time.monotonic() < until:
            _block(port, kept, {key: Pairs() for key in samples})
        for number in range((pairs + 1) // 2):
            if number % 50 == 0 and sys.stderr.isatty():
                print(f"\r{2 * number} of {pairs} pairs ", end="", file=sys.stderr, flush=True)
            _block(port, kept, samples)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        return samples, _count(kept)


SETTLE = 0.002
"""Seconds of rest before a new connection, in all rows alike."""


def _block(port: int, kept: Connection, samples: Samples) -> None:
    """Two pairs of each row, A B B A, so that neither side gains by its turn."""
    for row in ROWS:
        for is_with in (False, True, True, False):
            path = f"/{row if is_with else 'none'}"
            complete = kept.complete(request(path))
            following = kept.complete(request("/none"))
            # Django's app returns half a millisecond after its response, and the
            # callback begins then: on a new connection that work of the request
            # before would be measured, not what this one's own callback adds.
            time.sleep(SETTLE)
            with Connection(port) as closing:
                eof = closing.eof(request(path, close=True))
            for figure, seconds in zip(FIGURES, (complete, following, eof), strict=True):
                pairs = samples[row, figure]
                (pairs.with_ if is_with else pairs.without).append(seconds)


def _count(connection: Connection) -> int:
    """How many callbacks have ended. All must: otherwise nothing was measured."""
    until = time.monotonic() + 10
    while True:
        registered, ended = json.loads(connection.get("/counts"))
        if registered == ended:
            return int(ended)
        if time.monotonic() > until:
            raise RuntimeError(f"only {ended} of {registered} callbacks ran")
        time.sleep(0.1)


def _table(title: str, samples: Samples, callbacks: int, seed: int) -> Table:
    rows, count = [], 0
    for (row, figure), pairs in samples.items():
        count = len(pairs.without)
        baseline = median(pairs.without)
        added = differences(pairs.with_, pairs.without, seed)
        is_met = added.high <= max(AIM_SHARE * baseline, AIM_SECONDS)
        rows.append(
            [
                ROWS[row],
                figure,
                f"{baseline * 1e6:.0f}",
                f"{median(pairs.with_) * 1e6:.0f}",
                interval(added.over(1e-6), "{:+.1f}"),
                interval(added.over(baseline / 100), "{:+.1f}", " %"),
                "-" if row == "none" else verdict(is_met),
            ]
        )
    columns = ("callback", "figure", "without µs", "with µs", "added µs", "of baseline", "aim")
    notes = [
        f"{count} interleaved pairs per line; [...] is the 95 % interval of the median.",
        f"{callbacks} callbacks were registered, and as many ran.",
        "Aim: the upper end of the interval is at most 2 % of the baseline or 50 µs, whichever is",
        "larger. The control shows the error of the method itself.",
    ]
    return Table(title, columns, rows, notes)
