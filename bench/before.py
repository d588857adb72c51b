"""``--before WORKTREE``: is this checkout slower than another one of the project?

The measuring code is this checkout's on all sides; only the package differs. Each side has a
process of its own, new ones in each round: how code and data lie in memory, and the seed of
the hashes, differ from process to process, and would else be taken for a difference. Those of a
round live at the same time and measure in turn, so that a machine that slows down for a
second slows all of them down.
"""

import argparse
import contextlib
import operator
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from compileall import compile_dir
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from statistics import median
from typing import Any

from .progress import tracking
from .report import Table, commit
from .results import Figure, count
from .stats import Estimate, estimate
from .summary import shown
from .workers import ROOT, started

BEFORE, NOW, CONTROL = "before", "now", "control"
ORDERS = tuple(permutations((BEFORE, NOW, CONTROL)))
"""Each comes first, in the middle and last equally often. The control is *before* once more."""
TOLERANCE = 0.02
NOT_WORSE, WORSE, NOISY = "not worse", "worse", "noisy"

Directories = Mapping[str, Path]
"""By side. What is imported there is ``bench`` of this checkout and the package of that side."""
Ask = Callable[[], Mapping[str, float]]
"""Measures once, and tells a figure for each row."""
Round = Mapping[str, Sequence[Mapping[str, float]]]
"""By side, a figure for each row; items of equal index were taken in turn."""


@dataclass(frozen=True, slots=True)
class Comparison:
    title: str
    path: str
    """Of its figures."""
    start: Callable[[Directories], AbstractContextManager[Mapping[str, Ask]]]
    """The processes of a round, in this order."""
    rounds: int
    turns: int = len(ORDERS)
    """In a round."""
    unit: str = "ns"
    """``"s"``: compared by differences, as in ``latency``; else by ratios."""
    not_ours: Sequence[str] = ()
    """Rows without code of the package, which are not judged."""


def add_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--before",
        type=Path,
        metavar="WORKTREE",
        help="compare this checkout's package with the one in that directory",
    )


@contextlib.contextmanager
def workers(command: str, directories: Directories) -> Iterator[Mapping[str, Ask]]:
    """They call ``sample()`` of that module of ours."""
    with contextlib.ExitStack() as stack:
        found = {
            side: stack.enter_context(
                started("bench.before_worker", command, directory=directories[side])
            )
            for side in directories
        }
        for side, worker in found.items():  # ready, all of them
            refuse_another(worker.told(), directories[side])
        yield {side: worker.ask for side, worker in found.items()}


def refuse_another(package: str, directory: Path) -> None:
    """An installed one, say, which would be compared with itself."""
    if not Path(package).samefile(directory / "async_after"):
        raise RuntimeError(f"{directory}: what it imports is {package}")


def run(comparison: Comparison, args: argparse.Namespace) -> Iterator[Table]:
    rounds: list[Round] = []
    notes = [f"Before: commit {commit(args.before)}."]
    try:
        with (
            checkouts(args.before) as directories,
            tracking(f"{comparison.path} --before", comparison.rounds) as done,
        ):
            for number in range(comparison.rounds):
                order = ORDERS[number % len(ORDERS)]
                with comparison.start({side: directories[side] for side in order}) as sides:
                    rounds.append(_in_turn(sides, comparison.turns))
                done(1)
    except (KeyboardInterrupt, SystemExit):
        if rounds:
            notes.append("INTERRUPTED: so many rounds had been measured by then.")
            yield table(comparison, rounds, notes, args.seed)
        raise
    yield table(comparison, rounds, notes, args.seed)


def _in_turn(sides: Mapping[str, Ask], turns: int) -> Round:
    found: dict[str, list[Mapping[str, float]]] = {side: [] for side in sides}
    for turn in range(turns):
        for side in ORDERS[turn % len(ORDERS)]:
            found[side].append(sides[side]())
    return found


@contextlib.contextmanager
def checkouts(worktree: Path) -> Iterator[Directories]:
    if not (worktree / "async_after" / "__init__.py").is_file():
        sys.exit(f"--before {worktree}: there is no package async_after in it")
    with tempfile.TemporaryDirectory(prefix="async-after-before-") as name:
        directories = {}
        for side, source in ((BEFORE, worktree), (NOW, ROOT)):
            # Names of equal length: nothing but the package is to differ.
            directories[side] = directory = Path(name) / side.ljust(len(BEFORE), "_")
            directory.mkdir()
            (directory / "bench").symlink_to(ROOT / "bench")
            # Copies: somebody may edit the originals meanwhile.
            copied = directory / "async_after"
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / "async_after", copied, ignore=ignored)
            compile_dir(copied, quiet=1)  # else the first round would
        yield {**directories, CONTROL: directories[BEFORE]}


def verdict(found: Estimate, control: Estimate, same: float, allowed: float) -> str:
    """``same``: what is found where nothing differs."""
    if found.low <= same or found.high <= allowed:
        return NOT_WORSE
    return WORSE if found.low > control.high else NOISY


def table(
    comparison: Comparison, rounds: Sequence[Round], notes: Sequence[str], seed: int
) -> Table:
    is_added = comparison.unit == "s"
    compare, what, unit = (
        (operator.sub, "added", "s") if is_added else (operator.truediv, "x before", "x")
    )
    rows, figures = [], []
    for name in rounds[0][BEFORE][0]:
        before, now = (_middle(rounds, side, name) for side in (BEFORE, NOW))
        found, control = (_compared(rounds, side, name, compare, seed) for side in (NOW, CONTROL))
        same, allowed = (0.0, TOLERANCE * before) if is_added else (1.0, 1.0 + TOLERANCE)
        judged = "-" if name in comparison.not_ours else verdict(found, control, same, allowed)
        costs = (shown(count(cost), comparison.unit) for cost in (before, now))
        rows.append([name, *costs, shown(found, unit), shown(control, unit), judged])
        path = f"{comparison.path}/{name}/{what}"
        figures += [
            Figure(path, unit, found, baseline=before if is_added else None),
            Figure(f"{path}, control", unit, control),
        ]
    size, turns = len(rounds), len(rounds[0][BEFORE])
    notes = [*_method(size, turns, is_added), *notes]
    return Table(comparison.title, ("", BEFORE, NOW, what, CONTROL, ""), rows, notes, figures)


def _taken(round_: Round, side: str, name: str) -> list[float]:
    return [rows[name] for rows in round_[side]]


def _middle(rounds: Sequence[Round], side: str, name: str) -> float:
    return median(median(_taken(it, side, name)) for it in rounds)


def _compared(
    rounds: Sequence[Round], side: str, name: str, compare: Callable[[Any, Any], float], seed: int
) -> Estimate:
    """A process is one sample, however often it has measured."""
    return estimate(
        [median(map(compare, _taken(it, side, name), _taken(it, BEFORE, name))) for it in rounds],
        seed,
    )


def _method(rounds: int, turns: int, is_added: bool) -> Iterator[str]:
    same, limit = (
        ("0", f"{TOLERANCE * 100:g} % of before") if is_added else ("1", f"{1 + TOLERANCE:g}")
    )
    yield f"{rounds} rounds, each with new processes: of before, of now and, as the control, of"
    yield f"before once more. They measure {turns} times in turn. [...] is the 95 % interval of"
    yield "the median over the rounds; its upper end is what the run cannot exclude."
    yield f"Not worse: the interval begins at {same} or below, or ends at {limit} or below."
    yield f"Worse: all of it is above {same}, and above the control's. Noisy: above {same}, but not"
    yield f"above the control's, which should hold {same}."
