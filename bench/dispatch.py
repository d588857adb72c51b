"""What a callback costs from its registration to its final state.

Event-loop thread time per empty callback, and wall time too for plain
functions, next to what one would use instead: asyncio.create_task,
run_in_executor, and Starlette's BackgroundTasks.
"""

import argparse
import asyncio
import functools
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import django
from django.conf import settings
from starlette.background import BackgroundTasks

from async_after import after_response, get_runner

from . import before
from .exchanges import complete_exchange, current_exchange
from .report import Table, interval, verdict
from .results import Figure
from .stats import estimate, ratios

COUNTS = (1, 2, 4, 10, 100)
CALLBACKS = 200
"""Per contender and round, whatever the number per exchange."""
OURS, STARLETTE = "async_after", "Starlette"
CLOCKS = {"async": ("cpu",), "sync": ("cpu", "wall")}
RIVALS = {"async": "create_task", "sync": "run_in_executor"}
AIMS = {"async": 2.0, "sync": 1.3}
"""Times the rival."""
AIM_STARLETTE, FEWEST_STARLETTE = 0.7, 4
"""Times Starlette's, for plain functions, from so many callbacks on."""
FEWEST_CHEAPER = 10
"""Callbacks from which on each must cost less than one alone."""
PROCESSES, QUICK_PROCESSES = 40, 5
"""Rounds with ``--before``."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds",
        type=int,
        help=f"default 100; --quick 15; with --before {PROCESSES}; {QUICK_PROCESSES}",
    )
    before.add_argument(parser)


def run(args: argparse.Namespace) -> Iterator[Table]:
    if args.before is not None:
        title = "Dispatch of empty callbacks, per callback: now and before"
        rounds = args.rounds or (QUICK_PROCESSES if args.quick else PROCESSES)
        workers = functools.partial(before.workers, "dispatch")
        yield from before.run(before.Comparison(title, "dispatch", workers, rounds), args)
        return
    configure()
    rounds = args.rounds or (15 if args.quick else 100)
    for kind, clocks in CLOCKS.items():
        cells = asyncio.run(measure(rounds, _contenders(kind)))
        for clock in clocks:
            yield _table(kind, clock, cells, args.seed)


async def sample() -> dict[str, float]:
    """Ours alone, for ``--before``: nanoseconds per callback."""
    configure()
    rows = {}
    for kind, clocks in CLOCKS.items():
        cells = await measure(1, {OURS: _contenders(kind)[OURS]}, warm_up=0)
        for clock in clocks:
            for (count, _), cell in cells.items():
                [rows[f"{kind}, {clock}/{count} per exchange"]] = getattr(cell, clock)
    return rows


def configure() -> None:
    """As for most users: with Django loaded, each callback in a thread looks
    after database connections and caches, which the rivals do not."""
    if not settings.configured:
        settings.configure(USE_TZ=True)
        django.setup()


@dataclass(slots=True)
class Cell:
    """Nanoseconds per callback, a figure a round."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


Cells = dict[tuple[int, str], Cell]
Contender = Callable[[int, int], Callable[[], Awaitable[None]]]
"""Given exchanges, and callbacks in each: prepares, and returns what is measured."""


async def empty_async() -> None:
    pass


def empty_sync() -> None:
    pass


async def measure(rounds: int, contenders: Mapping[str, Contender], *, warm_up: int = 3) -> Cells:
    cells: Cells = {(count, name): Cell() for count in COUNTS for name in contenders}
    for number in range(-warm_up, rounds):
        for count in COUNTS:
            names = list(contenders)
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                cpu, wall = await _time(contenders[name], count)
                if number >= 0:
                    cells[count, name].cpu.append(cpu)
                    cells[count, name].wall.append(wall)
    return cells


async def _time(contender: Contender, count: int) -> tuple[float, float]:
    work = contender(CALLBACKS // count, count)
    gc.collect(0)
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    await work()
    cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
    return cpu / CALLBACKS, wall / CALLBACKS


def _contenders(kind: str) -> dict[str, Contender]:
    function = empty_async if kind == "async" else empty_sync
    rival = _create_task if kind == "async" else _run_in_executor
    return {
        RIVALS[kind]: rival,
        STARLETTE: functools.partial(_starlette, function),
        OURS: functools.partial(_ours, function),
    }


def _ours(function: Callable[[], Any], exchanges: int, count: int) -> Callable[[], Awaitable[None]]:
    dispatcher = get_runner().dispatcher(asyncio.get_running_loop())
    # A new exchange costs a request without callbacks as much: see ``idle``.
    ready = [complete_exchange(dispatcher) for _ in range(exchanges)]

    async def work() -> None:
        for exchange in ready:
            current_exchange.set(exchange)
            for _ in range(count):
                last = after_response(function)
            exchange.end()
            dispatcher.dispatch(exchange)
            if last.is_async:
                # Nobody waits in real life; a turn of the loop is the least
                # that lets the tasks run, and a task's awaiter takes it too.
                while not last.done():  # noqa: ASYNC110 -- no event: that would be measured too
                    await asyncio.sleep(0)
            else:
                await last.wait()

    return work


def _create_task(exchanges: int, count: int) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for _ in range(exchanges):
            for task in [asyncio.create_task(empty_async()) for _ in range(count)]:
                await task

    return work


def _run_in_executor(exchanges: int, count: int) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(exchanges):
            for future in [loop.run_in_executor(None, empty_sync) for _ in range(count)]:
                await future

    return work


def _starlette(
    function: Callable[[], Any], exchanges: int, count: int
) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        for _ in range(exchanges):
            tasks = BackgroundTasks()
            for _ in range(count):
                tasks.add_task(function)
            await tasks()

    return work


def _table(kind: str, clock: str, cells: Cells, seed: int) -> Table:
    rows, figures = [], []
    rival = RIVALS[kind]
    for count in COUNTS:
        at = {name: getattr(cells[count, name], clock) for name in (rival, STARLETTE, OURS)}
        path = f"dispatch/{kind}, {clock}/{count} per exchange"
        alone = getattr(cells[1, OURS], clock)
        compared = [
            Figure(
                f"{path}/x {rival}",
                "x",
                ratios(at[OURS], at[rival], seed),
                aim=AIMS[kind],
            ),
            Figure(
                f"{path}/x {STARLETTE}",
                "x",
                ratios(at[OURS], at[STARLETTE], seed),
                aim=AIM_STARLETTE if kind == "sync" and count >= FEWEST_STARLETTE else None,
            ),
        ]
        if count > 1:
            cheaper = 1.0 if kind == "async" and count >= FEWEST_CHEAPER else None
            estimated = ratios(at[OURS], alone, seed)
            compared.append(Figure(f"{path}/x one alone", "x", estimated, aim=cheaper))
        taken = estimate(at[OURS], seed)
        figures += [Figure(f"{path}/per callback", "ns", taken, median(at[rival])), *compared]
        costs = [f"{median(samples) / 1e3:.2f}" for samples in at.values()]
        rows.append([str(count), *costs, *map(_judged, compared), *["-"] * (count == 1)])
    what = "CPU time of the loop's thread" if clock == "cpu" else "wall time"
    columns = ["per exchange", f"{rival} µs", f"{STARLETTE} µs", f"{OURS} µs"]
    columns += [f"x {rival}", f"x {STARLETTE}", "x one alone"]
    rounds = len(cells[1, OURS].cpu)
    notes = [
        f"Per callback; {rounds} interleaved rounds of {CALLBACKS} callbacks a cell; [...] is the",
        "95 % interval of the median ratio.",
    ]
    return Table(f"Dispatch of empty {kind} callbacks: {what}", columns, rows, notes, figures)


def _judged(figure: Figure) -> str:
    shown = interval(figure.estimate)
    if figure.is_met is None:
        return shown
    return f"{shown}, at most {figure.aim:g}: {verdict(figure.is_met)}"
