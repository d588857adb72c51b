"""The same work done the other ways: does the client wait, and is any work lost?

Two tables. How much later the client has its response, its next one and the end
of its connection, when 0.2 s of work are to be done after it: each way against itself
without work. And how many of the callbacks that were asked for are never completed
when clients leave, callbacks and views raise, SIGTERM comes, or 200 arrive at once.
"""

import argparse
from collections.abc import Iterator

from ..report import Table
from . import tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pairs", type=int, help="per way (default 150; --quick 12)")
    parser.add_argument("--count", type=int, help="callbacks per cell (default 40; --quick 8)")
    parser.add_argument("--way", action="append", default=[], metavar="NAME", help="only this one")
    parser.add_argument("--only", choices=("latency", "loss"), help="one of the two tables")


def run(args: argparse.Namespace) -> Iterator[Table]:
    yield from tables.tables(args)
