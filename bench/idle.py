"""What the wrapper costs a request that registers nothing.

Nanoseconds of CPU per exchange, in process, on one event loop and without a
socket: a bare app, a wrapper that only wraps "receive" and "send" and sets
and resets a context variable, and AfterResponseMiddleware without callbacks.
Then the throughput of a Django app behind a real server, with and without it.
"""

import argparse
import asyncio
import functools
import gc
import time
from collections.abc import Iterator
from statistics import median

from async_after.asgi import AfterResponseMiddleware, App, Message, Receive, Scope, Send

from . import before, throughput
from .nothing import do_nothing
from .report import Table, interval, verdict
from .results import Figure
from .stats import estimate, ratios

AIM = 1.5
EXCHANGES = 500
"""Per contender and round; a round is short, so that its contenders share their luck."""
OURS = "async_after"
PROCESSES, QUICK_PROCESSES, IN_TURN = 60, 6, 9
"""Rounds with ``--before``, and those of a process whenever it is its turn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"default 2000; --quick 400; with --before {PROCESSES}; {QUICK_PROCESSES}",
    )
    parser.add_argument(
        "--slices",
        type=int,
        help=f"rounds of the throughput, default {throughput.ROUNDS};"
        f" --quick {throughput.QUICK_ROUNDS}",
    )
    before.add_argument(parser)


def run(args: argparse.Namespace) -> Iterator[Table]:
    if args.before is not None:
        title = "Idle: an exchange without callbacks, now and before"
        rounds = args.rounds or (QUICK_PROCESSES if args.quick else PROCESSES)
        workers = functools.partial(before.workers, "idle")
        not_ours = [name for name in CONTENDERS if name != OURS]
        comparison = before.Comparison(title, "idle", workers, rounds, not_ours=not_ours)
        yield from before.run(comparison, args)
        return
    rounds = args.rounds or (400 if args.quick else 2000)
    times = asyncio.run(measure(rounds))
    yield _table(times, args.seed)
    yield from throughput.run(args)


async def sample() -> dict[str, float]:
    """For ``--before``: nanoseconds per exchange."""
    times = await measure(IN_TURN, warm_up=0)
    return {name: median(samples) for name, samples in times.items()}


SCOPE: Scope = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.1", 50712),
    "scheme": "https",
    "method": "GET",
    "root_path": "",
    "path": "/orders/1042/",
    "raw_path": b"/orders/1042/",
    "query_string": b"page=2&sort=-created",
    "headers": [
        (b"host", b"shop.example"),
        (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        (b"accept", b"text/html,application/xhtml+xml"),
        (b"accept-language", b"en,fr;q=0.5"),
        (b"accept-encoding", b"gzip, deflate, br"),
        (b"cookie", b"sessionid=0123456789abcdef0123456789abcdef"),
        (b"connection", b"keep-alive"),
    ],
    "state": {},
}
REQUEST: Message = {"type": "http.request", "body": b"", "more_body": False}
HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-length", b"13"),
    (b"x-frame-options", b"DENY"),
    (b"vary", b"Cookie"),
]


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"Hello, world!"})


CONTENDERS: dict[str, App] = {
    "bare app": bare,
    "do-nothing wrapper": do_nothing(bare),
    OURS: AfterResponseMiddleware(bare),
}


async def measure(rounds: int, *, warm_up: int = 20) -> dict[str, list[float]]:
    """Nanoseconds per exchange, per contender and round."""
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(-warm_up, rounds):
        # Each comes first, in the middle and last equally often.
        names = list(CONTENDERS)
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            taken = await _time(CONTENDERS[name])
            if number >= 0:
                times[name].append(taken)
    return times


async def _time(app: App) -> float:
    async def receive() -> Message:
        return REQUEST

    async def send(message: Message) -> None:
        pass

    scope = SCOPE
    gc.collect(0)
    # CPU time: another process on this core is not charged to us.
    began = time.thread_time_ns()
    for _ in range(EXCHANGES):
        await app(scope, receive, send)
    return (time.thread_time_ns() - began) / EXCHANGES


def _table(times: dict[str, list[float]], seed: int) -> Table:
    base = times["do-nothing wrapper"]
    rows, figures = [], []
    for name, samples in times.items():
        ratio = ratios(samples, base, seed)
        taken = estimate(samples, seed)
        is_ours = name == OURS
        figures.append(Figure(f"idle/{name}/per exchange", "ns", taken))
        if is_ours:
            figures.append(Figure(f"idle/{name}/x do-nothing", "x", ratio, aim=AIM))
        rows.append(
            [
                name,
                interval(taken, "{:.0f}"),
                interval(ratio, "{:.3f}"),
                f"at most {AIM}: {verdict(ratio.high <= AIM)}" if is_ours else "-",
            ]
        )
    notes = [
        f"{len(base)} interleaved rounds of {EXCHANGES} exchanges each; [...] is the 95 % interval"
        " of the median.",
        f"Over the bare app: async_after {_over(times, OURS)} ns, the do-nothing wrapper"
        f" {_over(times, 'do-nothing wrapper')} ns.",
    ]
    columns = ("", "ns per exchange", "x do-nothing", "aim")
    return Table("Idle: an exchange without callbacks", columns, rows, notes, figures)


def _over(times: dict[str, list[float]], name: str) -> str:
    return f"{median(times[name]) - median(times['bare app']):.0f}"
