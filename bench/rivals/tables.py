"""Runs the meter and the judge over all ways, and tells what they found."""

import argparse
import concurrent.futures
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TypeVar

from ..progress import tracking
from ..report import Table, interval
from ..results import Figure, count
from . import losses, waits
from .losses import COLUMNS, LOGGED, Judge, Row
from .waits import Meter, Waits
from .ways import WAYS, Way, named
from .work import Kind

JUDGES = 4
"""Rows of the loss table that are judged at the same time: mostly they wait."""
CONTROL: Kind = "none"

Cell = tuple[Way, Kind]
Found = TypeVar("Found")
Left = dict[str, str]
"""Why a row is left out, by what it is of."""


def tables(args: argparse.Namespace) -> Iterator[Table]:
    chosen = [named(name) for name in args.way] or WAYS
    left: Left = {way.title: why for way in chosen if (why := way.why_left_out())}
    if args.quick and not args.way:
        left |= {way.title: "not with --quick" for way in chosen if way.workers}
    cells = [
        (way, kind)
        for way in chosen
        if way.title not in left
        # Quick: one kind of work each.
        for kind in (way.kinds[:1] if args.quick else way.kinds)
    ]
    if args.only != "loss":
        pairs, seconds, warm_up = (12, 1.0, 0.3) if args.quick else (150, 6.0, 1.0)

        def meter(cell: Cell, stop: threading.Event) -> Waits:
            return Meter(*cell, stop).measure(args.pairs or pairs, seconds, warm_up)

        measured, failed = _each("rivals: latency", cells, meter, at_once=1)
        yield _latency([measured[cell] for cell in cells if cell in measured], left | failed, args)
    if args.only != "latency":
        callbacks = args.count or (8 if args.quick else 40)

        def judge(cell: Cell, stop: threading.Event) -> Row:
            return Judge(*cell, callbacks, stop).judge()

        cells = [(way, kind) for way, kind in cells if kind != CONTROL]
        judged, failed = _each("rivals: loss", cells, judge, at_once=JUDGES)
        yield _loss([judged[cell] for cell in cells if cell in judged], left | failed)


def _each(
    what: str,
    cells: Sequence[Cell],
    work: Callable[[Cell, threading.Event], Found],
    *,
    at_once: int,
) -> tuple[Mapping[Cell, Found], Left]:
    """In threads, which no signal ends: they are told, and end what they have started."""
    stop = threading.Event()
    found: dict[Cell, Found] = {}
    failed: Left = {}
    pool = concurrent.futures.ThreadPoolExecutor(at_once)
    # Those last longest that do one thing after another.
    ordered = sorted(cells, key=lambda cell: (cell[0].workers is None, cell[1] != "sync"))
    try:
        with tracking(what, len(cells)) as advance:
            futures = {pool.submit(work, cell, stop): cell for cell in ordered}
            for future in concurrent.futures.as_completed(futures):
                way, kind = futures[future]
                try:
                    found[way, kind] = future.result()
                except (OSError, RuntimeError) as error:
                    if way.is_ours:
                        raise
                    failed[f"{way.title}, {kind}"] = str(error).strip().splitlines()[-1]
                advance(1)
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return found, failed


def _latency(measured: Sequence[Waits], left: Left, args: argparse.Namespace) -> Table:
    rows, figures = [], []
    for row in measured:
        added = {figure: row.added(figure, args.seed) for figure in waits.FIGURES}
        rows.append(
            [
                row.way.title,
                "control" if row.kind == CONTROL else row.kind,
                f"{row.pairs}",
                f"{row.baseline(waits.FIGURES[0]) * 1e6:.0f}",
                *(
                    f"WAITS {estimate.value:.2f} s"
                    if estimate.value > waits.SECONDS / 2
                    else interval(estimate.over(1e-6), "{:+.0f}")
                    for estimate in added.values()
                ),
                f"{row.done} of {row.asked}",
            ]
        )
        figures += [
            Figure(
                f"rivals/{row.way.name}/{row.kind}/{figure}", "s", estimate, row.baseline(figure)
            )
            for figure, estimate in added.items()
        ]
    columns = ("way", "work", "pairs", "without µs", *(f"{f}, µs" for f in waits.FIGURES), "done")
    notes = [
        f"Added by {waits.SECONDS} s of work (a sleep) after the response: the median of the",
        "pairwise differences to the same request without work, and its 95 % interval. WAITS: the",
        "client waits for the work itself. The control has no work on either side: the error of",
        f"the method. done: how much of it was, by its own effect, {waits.DRAIN:g} s later; the",
        "rest is late (one thread for all), lost, or still in the queue.",
        *_left_out(left),
    ]
    title = f"uvicorn {version('uvicorn')}: what work after the response adds for the client"
    return Table(title, columns, rows, notes, figures)


def _loss(judged: Sequence[Row], left: Left) -> Table:
    rows, figures = [], []
    for row in judged:
        rows.append(
            [
                row.way.title,
                row.kind,
                *(f"{row.lost[c]}/{row.asked[c]}" if row.lost[c] else "0" for c in COLUMNS),
                row.logged,
                row.way.versions,
            ]
        )
        prefix = f"rivals/{row.way.name}/{row.kind}"
        aim = 0.0 if row.way.is_ours else None
        for column in COLUMNS:
            share = count(row.lost[column] / row.asked[column])
            figures.append(Figure(f"{prefix}/lost: {column}", "share", share, aim=aim))
        logged = count(float(row.logged == LOGGED))
        aim = 1.0 if row.way.is_ours else None
        figures.append(
            Figure(f"{prefix}/failure logged", "share", logged, better="higher", aim=aim)
        )
    columns = ("way", "work", *COLUMNS, "logged", "of")
    asked = max((row.asked[losses.CLOSES] for row in judged), default=0)
    title = f"uvicorn {version('uvicorn')}, its defaults: callbacks lost, of {asked} in each cell"
    return Table(
        title, columns, rows, [*_notes(judged), *_verdict(judged), *_left_out(left)], figures
    )


def _notes(judged: Sequence[Row]) -> list[str]:
    seconds, term, burst = (
        f"{seconds * 1000:g} ms"
        for seconds in (losses.SECONDS, losses.TERM_SECONDS, losses.BURST_SECONDS)
    )
    return [
        "Lost: never completed, as seen by its own effect. A way has a row for each kind of work",
        f"that it takes, done as its documentation shows. A callback takes {seconds}.",
        f"  {losses.CLOSES}: at once behind the complete response.",
        f"  {losses.RESETS}: RST, in the middle of a streaming response.",
        f"  {losses.LEAVES}: while the view, which has registered the work (or does it), runs.",
        f"  {losses.WORK_RAISES}: another callback, registered before by the same request.",
        f"  {losses.VIEW_RAISES}: after it has registered the work.",
        f"  {losses.TERM}: while callbacks of {term} run; a queue's workers get it too, new ones",
        "    start.",
        f"  {losses.AT_ONCE_200}: requests, each with one callback of {burst}.",
        "  logged: a callback that raises, with a traceback that names it.",
        "Ways without a package of their own are a plain loop, with no try around each callback.",
        *dict.fromkeys(f"  {row.way.title}: {row.way.note}." for row in judged if row.way.note),
        "Every column can be won here. What no way inside the server's process can win is none of",
        "them: SIGKILL, a power cut. There only a queue keeps what it was given.",
    ]


def _verdict(judged: Sequence[Row]) -> list[str]:
    ours = [row for row in judged if row.way.is_ours]
    if not ours:
        return []
    lost = sum(sum(row.lost.values()) for row in ours)
    asked = sum(sum(row.asked.values()) for row in ours)
    is_met = not lost and all(row.logged == LOGGED for row in ours)
    verdict = "met" if is_met else "MISSED"
    return [f"Aim, async_after loses none, and logs: {verdict} ({lost} of {asked} lost)."]


def _left_out(left: Left) -> list[str]:
    return [f"Left out: {what}: {why}." for what, why in left.items()]
