"""``latency --before``: servers with both packages at once, and requests to them in turn."""

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Iterator, Sequence

from . import before, latency_table
from .asgi_servers import JUDGED
from .latency_measure import REST, RESTS, WARM_UP, Client, Shape, count
from .latency_server import client_of, label
from .report import Table

ROUNDS, QUICK_ROUNDS, TURNS = 16, 3, 24
ROWS = {**latency_table.ROWS, "none": "no callback"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rounds", type=int, help=f"with --before: default {ROUNDS}; --quick {QUICK_ROUNDS}"
    )
    before.add_argument(parser)


def run(args: argparse.Namespace) -> Iterator[Table]:
    if args.wsgi or args.validate:
        sys.exit("--before is for ASGI servers; leave --wsgi and --validate away")
    shape = Shape(args.chunked, args.large)
    for name in args.server or JUDGED[:1]:
        shown = label(name, args.app, shape)
        comparison = before.Comparison(
            title=f"{shown}: what is later than before",
            path=f"latency/{shown}",
            start=functools.partial(_asked, name, args, shape),
            rounds=args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS),
            turns=TURNS,
            unit="s",
        )
        yield from before.run(comparison, args)


@contextlib.contextmanager
def _asked(
    name: str, args: argparse.Namespace, shape: Shape, directories: before.Directories
) -> Iterator[dict[str, before.Ask]]:
    """A server for each side, with as many callbacks under way as there will be."""
    rows = ("none", *(args.kind or latency_table.JUDGED))
    with contextlib.ExitStack() as stack:
        clients = {
            side: stack.enter_context(client_of(name, args, directory))
            for side, directory in directories.items()
        }
        for side, client in clients.items():
            before.refuse_another(client.get("/package").decode(), directories[side])
        asks: dict[str, before.Ask] = {
            side: functools.partial(_turn, client, shape, rows) for side, client in clients.items()
        }
        until = time.monotonic() + WARM_UP
        while time.monotonic() < until:
            for ask in asks.values():
                ask()
        yield asks
        for client in clients.values():
            count(client.get, "/counts")


def _turn(client: Client, shape: Shape, rows: Sequence[str]) -> dict[str, float]:
    found = {}
    for row in rows:
        taken = client.turn(f"{shape.path}{row}", RESTS.get(row, REST))
        for figure, seconds in zip(client.figures, taken, strict=True):
            found[f"{ROWS[row]}/{figure}"] = seconds
    return found
