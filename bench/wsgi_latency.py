"""``latency --wsgi``: does a callback that takes a second make the client of a WSGI server wait?"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from .client import Connection, request
from .latency_measure import Pairs, Samples, count
from .progress import Advance, tracking
from .report import Table, interval
from .results import Curve, Figure, curve
from .servers import Server, free_port, started
from .stats import Estimate, differences, ratios

APPLICATION = "bench.wsgi_app:application"
LANE = "ASYNC_AFTER_BENCH_LANE"
"""The environment variable that tells the application its lane."""

ROWS = {"none": "control: none", "async": "async sleep 1 s", "sync": "sync sleep 1 s"}
BODY, NEXT, CHUNKED, EOF = (
    "body (Content-Length)",
    "next request",
    "body (chunked)",
    "EOF after close",
)
FIGURES = (BODY, NEXT, CHUNKED, EOF)
WARM_UP = 1.5
AIM_SHARE, AIM_SECONDS = 0.02, 50e-6
NOT_LATER = "not later"
ENOUGH = 20
"""Pairs without which microseconds tell nothing."""
WAITING = 0.5
"""Seconds, half of what a callback takes; below, it is the work of starting it, or the machine."""

PAIRS = {"threads": (60, 400), "inline": (2, 6)}
"""By lane: with ``--quick`` and without. Inline, each callback takes its second
while we wait."""


@dataclass(frozen=True)
class Kind:
    """One WSGI server: its command, and what must be installed for it."""

    command: str
    """``{python}``, ``{bin}``, ``{app}`` and ``{port}`` are filled in."""
    needs: str
    """A module, or a program next to the interpreter."""
    without: tuple[str, ...] = ()
    """The figures that it does not have."""


_GUNICORN = "{python} -m gunicorn {app} -b 127.0.0.1:{port} --no-control-socket --keep-alive 30"
_UWSGI = (
    "{bin}/uwsgi --http-socket 127.0.0.1:{port} --module {app} --enable-threads --threads 4"
    " --master --need-app --die-on-term --disable-logging -H {prefix}"
)
KINDS = {
    "gunicorn-gthread": Kind(f"{_GUNICORN} -k gthread --threads 4", "gunicorn"),
    "gunicorn-gevent": Kind(f"{_GUNICORN} -k gevent", "gevent"),
    "waitress": Kind(
        "{python} -m waitress --listen=127.0.0.1:{port} --threads=4 {app}", "waitress"
    ),
    "cheroot": Kind("{python} -m cheroot {app} --bind 127.0.0.1:{port} --threads 4", "cheroot"),
    "granian": Kind(
        "{python} -m granian {app} --interface wsgi --host 127.0.0.1 --port {port}"
        " --blocking-threads 4",
        "granian",
    ),
    "hypercorn": Kind(
        "{python} -m hypercorn wsgi:{app} --bind 127.0.0.1:{port} --keep-alive 30", "hypercorn"
    ),
    # The one with keep-alive does not close a connection, nor end a response
    # without Content-Length, before it has been idle for 4 s; the other has no keep-alive.
    "uwsgi-keep-alive": Kind(
        _UWSGI.replace("--http-socket", "--http11-socket"), "bin/uwsgi", without=(CHUNKED, EOF)
    ),
    "uwsgi": Kind(_UWSGI, "bin/uwsgi", without=(NEXT, CHUNKED)),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("under WSGI")
    group.add_argument("--wsgi", action="store_true", help="measure WSGI servers")
    group.add_argument("--lane", choices=("threads", "inline"), default="threads")


def run(args: argparse.Namespace) -> Iterator[Table]:
    later: list[str] = []
    for name in args.server or KINDS:
        if _is_installed(KINDS[name]):
            yield from _one(name, args, later)
        else:
            print(f"\n{name}: skipped, it is not installed", flush=True)
    print("\nLater than without a callback:" + ("".join(f"\n  {x}" for x in later) or " nothing"))


def _one(name: str, args: argparse.Namespace, later: list[str]) -> Iterator[Table]:
    """The table of one server, also of what has been measured when Ctrl-C comes."""
    kind = KINDS[name]
    pairs = args.pairs or PAIRS[args.lane][0 if args.quick else 1]
    samples: Samples = {}
    callbacks: int | None = None
    try:
        with (
            started(_server(name, kind), pin=args.pin, environment={LANE: args.lane}) as it,
            tracking(name, pairs) as done,
        ):
            figures = tuple(figure for figure in FIGURES if figure not in kind.without)
            callbacks = _measure(it.port, pairs, samples, figures, args.lane, done)
            if "Traceback" in it.log.tail():
                raise RuntimeError("the server logged errors:\n" + it.log.tail())
    except (KeyboardInterrupt, SystemExit):
        if samples and all(pairs.with_ for pairs in samples.values()):
            yield _table(name, args.lane, samples, callbacks, args.seed, later)
        raise
    yield _table(name, args.lane, samples, callbacks, args.seed, later)


def _is_installed(kind: Kind) -> bool:
    if kind.needs.startswith("bin/"):
        return Path(sys.executable).with_name(kind.needs[4:]).exists()
    return importlib.util.find_spec(kind.needs) is not None


def _server(name: str, kind: Kind) -> Server:
    port = free_port()
    words = {
        "python": sys.executable,
        "bin": str(Path(sys.executable).parent),
        "prefix": sys.prefix,
        "app": APPLICATION,
        "port": port,
    }
    command = [word.format(**words) for word in kind.command.split()]
    return Server(name, command, ready=r"(?!)", fixed_port=port)


def _measure(
    port: int, pairs: int, samples: Samples, figures: Sequence[str], lane: str, done: Advance
) -> int:
    """Fills ``samples``, and tells how many callbacks ran for them.

    The callbacks of some requests run while the next ones are measured, on
    both sides of a pair alike: ``LIMIT`` and ``MAX_THREADS`` have room for all.
    """
    until = time.monotonic() + (WARM_UP if lane == "threads" else 0)
    _block(port, {}, figures, rows=("none",))
    while time.monotonic() < until:
        _block(port, {}, figures)
    for _ in range((pairs + 1) // 2):
        _block(port, samples, figures)
        done(2)

    def get(path: str) -> bytes:
        # Not every server keeps a connection.
        with Connection(port) as connection:
            return connection.get(path)

    return count(get, "/plain/counts")


SETTLE = 0.006
"""Seconds of rest before a new connection, in all rows alike (see README)."""


def _block(
    port: int, samples: Samples, figures: Sequence[str], rows: Sequence[str] = tuple(ROWS)
) -> None:
    """Two pairs of each row, A B B A, so that neither side gains by its turn."""
    for row in rows:
        a_1, b_1, b_2, a_2 = (_turn(port, kind, figures) for kind in ("none", row, row, "none"))
        for figure in figures:
            pairs = samples.setdefault((row, figure), Pairs())
            pairs.without.extend((a_1[figure], a_2[figure]))
            pairs.with_.extend((b_1[figure], b_2[figure]))


def _turn(port: int, kind: str, figures: Sequence[str]) -> dict[str, float]:
    """One sample of each figure, on connections of their own: waitress closes one
    behind a chunked response, and uWSGI now and then."""
    seconds = {}
    time.sleep(SETTLE)
    with Connection(port) as kept:
        seconds[BODY] = kept.complete(request(f"/plain/{kind}"))
        if NEXT in figures:
            seconds[NEXT] = kept.complete(request("/plain/none"))
    if CHUNKED in figures:
        time.sleep(SETTLE)
        with Connection(port) as chunked:
            seconds[CHUNKED] = chunked.complete(request(f"/stream/{kind}"))
    if EOF in figures:
        time.sleep(SETTLE)
        with Connection(port) as closing:
            seconds[EOF] = closing.eof(request(f"/plain/{kind}", close=True))
    return seconds


def judge(added: Estimate, baseline: float, pairs: int) -> str:
    """Not later: the interval reaches down to 0, or ends below what nobody notices."""
    if added.high >= WAITING:
        return f"WAITS {added.value:.2f} s"
    if added.low <= 0 or added.high <= max(AIM_SHARE * baseline, AIM_SECONDS):
        return NOT_LATER
    if pairs < ENOUGH:
        return "does not wait"
    return f"later by {added.value * 1e6:.0f} µs"


def _table(
    name: str, lane: str, samples: Samples, callbacks: int | None, seed: int, later: list[str]
) -> Table:
    """``callbacks``: how many ran, ``None`` where the end was not waited for."""
    rows: list[list[str]] = []
    figures: list[Figure] = []
    curves: list[Curve] = []
    size = 0
    for (row, figure), pairs in samples.items():
        size = min(len(pairs.without), len(pairs.with_))
        without, with_ = pairs.without[:size], pairs.with_[:size]
        baseline = median(without)
        added = differences(with_, without, seed)
        path = f"latency/{name} lane {lane}/{ROWS[row]}/{figure}"
        figures.append(Figure(path, "s", added, baseline=baseline))
        curves += [curve(f"{path}/without", "s", without), curve(f"{path}/with", "s", with_)]
        verdict = judge(added, baseline, size)
        if verdict.startswith(("WAITS", "later")):
            later.append(f"{name}: {figure}, {ROWS[row]}: {verdict}")
        rows.append(
            [
                ROWS[row],
                figure,
                f"{baseline * 1e6:.0f}",
                interval(added.over(1e-6), "{:+.0f}"),
                interval(ratios(with_, without, seed), "{:.3f}"),
                verdict,
            ]
        )
    columns = ("callback", "figure", "without µs", "added µs", "ratio", "verdict")
    notes = [
        f"{size} interleaved pairs per line; [...] is the 95 % interval of the median.",
        "INTERRUPTED: so many pairs had been measured by then."
        if callbacks is None
        else f"{callbacks} callbacks were registered, and as many ran.",
        "Not later: the interval of what is added reaches down to 0, or ends below 2 % of the",
        "baseline or 50 µs, whichever is larger. The control shows the error of the method.",
        "Later by microseconds: the view registers a callback here and none there.",
        "WAITS: for the callback itself.",
    ]
    title = f"{name}, lane {lane}: what a callback of 1 s adds"
    return Table(title, columns, rows, notes, figures, curves)
