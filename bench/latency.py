"""Does a callback that takes a second make the client wait?

A table per server: how much later, with a callback than without one, come the
complete response, the next request's response on the same connection (over
HTTP/2 the next stream), and EOF with "Connection: close". Without options:
what the aim is judged on. ``--more`` adds other servers, protocols, callbacks
and shapes of the response, with fewer pairs. ``--wsgi``: under WSGI servers, in
the lane that is the default there, or in another one. ``--validate``: is the
client right? Against wrk and httpx, and with known delays. ``--before``: is any of it
later than with the package of another checkout?
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import latency_before, latency_validate, servers, wsgi_latency
from .asgi_servers import JUDGED, SERVERS
from .latency_measure import Samples, Shape, measure
from .latency_server import client_of, label
from .latency_table import CONTROL, ROWS, table
from .progress import tracking
from .report import Table

PLAIN = Shape()
KINDS = tuple(row for row in ROWS if row != CONTROL)
SLEEPS = ("async", "sync")
PAIRS, QUICK_PAIRS = 1000, 30
MORE_PAIRS, QUICK_MORE_PAIRS = 40, 4
FEWEST = 2
"""Pairs of which a table is made when Ctrl-C comes."""


@dataclass(frozen=True, slots=True)
class Part:
    """One table: a server, started for it."""

    server: str
    kinds: Sequence[str] = SLEEPS
    shape: Shape = PLAIN
    pairs: int = PAIRS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, help=f"per line (default {PAIRS})")
    parser.add_argument(
        "--server",
        action="append",
        help=f"one of them (repeatable): {', '.join(SERVERS)}; with --wsgi:"
        f" {', '.join(wsgi_latency.KINDS)}",
    )
    parser.add_argument("--kind", choices=KINDS, action="append", help="of callback (repeatable)")
    parser.add_argument("--chunked", action="store_true", help="responses without Content-Length")
    parser.add_argument("--large", action="store_true", help="responses of 1 MB")
    parser.add_argument("--app", choices=("django", "bare"), default="django")
    parser.add_argument("--more", action="store_true", help=f"the rest too, {MORE_PAIRS} pairs")
    parser.add_argument("--validate", action="store_true", help="measure the client itself")
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=servers.can_pin(),
        help="a core each for client and server (default where there are two)",
    )
    latency_before.add_arguments(parser)
    wsgi_latency.add_arguments(parser)


def run(args: argparse.Namespace) -> Iterator[Table]:
    known = wsgi_latency.KINDS if args.wsgi else SERVERS
    for name in args.server or ():
        if name not in known:
            sys.exit(f"--server {name}: there are {', '.join(known)}")
    if args.before is not None:
        yield from latency_before.run(args)
    elif args.validate:
        yield from latency_validate.run(args)
    elif args.wsgi:
        yield from wsgi_latency.run(args)
    else:
        yield from _run(args)


def _run(args: argparse.Namespace) -> Iterator[Table]:
    failed: list[str] = []
    for part in parts(args):
        server = SERVERS[part.server]
        if not server.is_installed:
            print(f"\n{part.server}: skipped, it is not installed", flush=True)
            continue
        try:
            yield from _part(part, args)
        except (RuntimeError, OSError) as error:  # the others may do better
            print(f"\n{part.server}: {error}", file=sys.stderr, flush=True)
            failed.append(part.server)
    if failed:
        raise RuntimeError(f"not measured: {', '.join(failed)}")


def parts(args: argparse.Namespace) -> Iterator[Part]:
    pairs = args.pairs or (QUICK_PAIRS if args.quick else PAIRS)
    shape = Shape(args.chunked, args.large)
    for name in args.server or JUDGED:
        yield Part(name, args.kind or SLEEPS, shape, pairs)
    if args.more:
        yield from _more(min(pairs, QUICK_MORE_PAIRS if args.quick else MORE_PAIRS))


def _more(pairs: int) -> Iterator[Part]:
    for name in SERVERS:
        if name not in JUDGED:
            yield Part(name, pairs=pairs)
    main = JUDGED[0]
    yield Part(main, ("cpu", "database"), pairs=pairs)
    for shape in (Shape(is_chunked=True), Shape(is_large=True), Shape(True, True)):
        yield Part(main, shape=shape, pairs=pairs)


def _part(part: Part, args: argparse.Namespace) -> Iterator[Table]:
    """One table, also of what has been measured when Ctrl-C comes."""
    kinds = "" if tuple(part.kinds) == SLEEPS else f", {' and '.join(part.kinds)}"
    name = f"{label(part.server, args.app, part.shape)}{kinds}"
    title = f"{name}: what a callback adds"
    samples: Samples = {}
    try:
        with client_of(part.server, args) as client, tracking(name, part.pairs) as done:
            rows = (CONTROL, *part.kinds)
            callbacks = measure(client, part.shape, part.pairs, samples, rows, done)
    except (KeyboardInterrupt, SystemExit):
        if samples and all(len(pairs.with_) >= FEWEST for pairs in samples.values()):
            yield table(title, name, samples, None, args.seed)
        raise
    yield table(title, name, samples, callbacks, args.seed)
