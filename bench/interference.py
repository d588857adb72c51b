"""Do callbacks disturb the requests that are answered meanwhile?

p50, p99 and p99.9 of plain requests at a fixed rate on one uvicorn process while
callbacks of one kind are registered at a fixed rate, too: next to the same requests
without callbacks, and to the other ways of running them in the process of the
server. A queue, whose callbacks run in another process, is shown beside them.
"""

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import interference_table, servers
from .client import request
from .interference_plan import CALLBACKS, KINDS, QUEUE, RATES, WAYS, Cell, Measured, cells
from .interference_work import BROKER, DIRECTORY, ended
from .openloop import OpenLoop, Stream, schedule
from .progress import Advance, tracking
from .report import Table
from .rivals import site
from .rivals.ways import CELERY_CONCURRENCY, named

SLICE = 0.5
REQUESTS = 100
"""Seconds, and plain requests, that one way has at least before the next one has its turn."""
ROUNDS, QUICK_ROUNDS = 11, 3
CONNECTIONS = 64
DEADLINE = 30.0
"""Seconds in which all callbacks of a slice must have ended; in the first one the
queue's worker starts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}; --quick {QUICK_ROUNDS}")
    parser.add_argument(
        "--kind", action="append", choices=KINDS, help="only this one (--quick: cpu, no queue)"
    )
    parser.add_argument(
        "--rates",
        nargs="+",
        type=_rate,
        metavar="N",
        help="plain requests a second; all kinds at the first, CPU at the others (200 100 400)",
    )
    parser.add_argument(
        "--callbacks", type=_rate, default=CALLBACKS, help=f"a second ({CALLBACKS:g})"
    )
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=servers.can_pin(),
        help="a core each for client and server, where there are two; the queue has all",
    )


def _rate(text: str) -> float:
    rate = float(text)
    if not 1 <= rate <= 100_000:
        raise argparse.ArgumentTypeError("from 1 to 100000 a second")
    return rate


def run(args: argparse.Namespace) -> Iterator[Table]:
    chosen = args.kind or (["cpu"] if args.quick else KINDS)
    kinds = [kind for kind in KINDS if kind in chosen]
    rates = list(dict.fromkeys(args.rates or (RATES[:1] if args.quick else RATES)))
    rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    left = {}
    if any(QUEUE in WAYS[kind] for kind in kinds):
        why = "as always with --quick" if args.quick else named(QUEUE).why_left_out()
        left = {} if why is None else {QUEUE: why}
    planned = cells(kinds, rates, left)
    # A connection may rest while others are enough.
    options = ["--timeout-keep-alive", "600"]
    app = "bench.interference_app:app"
    server = servers.uvicorn(app, *options, http="httptools", loop=args.loop)
    name = f"{server.name}, {args.loop}, {args.callbacks:g} callbacks/s"
    measured = Measured(per_second=args.callbacks)
    try:
        with (
            _environment(any(cell.way == QUEUE for cell in planned)) as environment,
            servers.running(server, pin=args.pin, environment=environment) as port,
            OpenLoop(port, burst=0, connections=CONNECTIONS) as client,
            tracking("interference", (rounds + 1) * len(planned)) as done,
        ):
            client.warm_up(request("/plain"))
            judge = Judge(client, Path(environment[DIRECTORY]), args.seed)
            judge.measure(planned, rounds, measured, done)
    except (KeyboardInterrupt, SystemExit):
        if measured.rounds:
            yield from interference_table.tables(name, measured, left, args.seed, is_cut=True)
        raise
    yield from interference_table.tables(name, measured, left, args.seed)


class Judge:
    """Lets every cell have its slice, in another order in each round."""

    def __init__(self, client: OpenLoop, directory: Path, seed: int) -> None:
        self._client = client
        self._directory = directory
        self._seed = seed
        self._registered = 0

    def measure(
        self, planned: Sequence[Cell], rounds: int, measured: Measured, done: Advance
    ) -> None:
        for cell in planned:
            measured.slices[cell] = []
        for number in range(-1, rounds):  # the first one is warm-up
            order = random.Random(self._seed + number).sample(planned, len(planned))
            for cell in order:
                latencies = self._slice(cell, self._seed + number, measured.per_second)
                if number >= 0:
                    measured.slices[cell].append(latencies)
                done(1)
            if number >= 0:
                measured.rounds += 1
                measured.callbacks = self._registered

    def _slice(self, cell: Cell, seed: int, per_second: float) -> list[float]:
        # The same moments for all ways, others in each round.
        seconds = max(SLICE, REQUESTS / cell.rate)
        plain = schedule(cell.rate, seconds, seed)
        registering = schedule(per_second, seconds, seed + 10_000)
        if not cell.is_control:
            self._registered += len(registering)
        latencies, _ = self._client.measure_streams(
            Stream(request("/plain"), plain),
            Stream(request(f"/{cell.way}/{cell.kind}"), registering),
        )
        self._wait_for_callbacks(cell)
        return latencies

    def _wait_for_callbacks(self, cell: Cell) -> None:
        until = time.monotonic() + DEADLINE
        while (count := ended(self._directory)) < self._registered:
            if time.monotonic() > until:
                missing = self._registered - count
                raise RuntimeError(f"{missing} callbacks of {cell.way}/{cell.kind} have not ended")
            time.sleep(0.005)
        if count > self._registered:
            raise RuntimeError(f"{cell.way}/{cell.kind} has run callbacks twice")


# The queue, and where it and the server find each other.


@contextlib.contextmanager
def _environment(has_queue: bool) -> Iterator[dict[str, str]]:
    """A directory for ledger and database and, beside the server, Redis and the worker."""
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="interference-"))
        environment = {DIRECTORY: directory}
        if has_queue:
            stack.enter_context(_queue(Path(directory), environment))
        yield environment


@contextlib.contextmanager
def _queue(directory: Path, environment: dict[str, str]) -> Iterator[None]:
    with site.running_redis(directory) as url:
        environment[BROKER] = url
        command = [sys.executable, "-m", "celery", "-A", "bench.interference_queue:app", "worker"]
        command += ["--loglevel", "WARNING", "--concurrency", str(CELERY_CONCURRENCY)]
        log = directory / "worker.log"
        with site.running_process(command, log, {**os.environ, **environment}) as worker:
            try:
                yield
            except RuntimeError as error:
                if worker.process.poll() is None:
                    raise
                # This is why callbacks are missing.
                raise RuntimeError(f"the queue's worker has ended:\n{log.read_text()}") from error
