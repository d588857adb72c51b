"""What subcommands have found, as it is kept: ``results.json``."""

import argparse
import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from .report import Table, commit, facts
from .results import Curve, Figure
from .stats import Estimate

FORMAT = 1
"""Of the file. One of another format is refused."""
_NOT_ARGUMENTS = {"command", "commands", "json"}

State = Literal["complete", "interrupted", "failed"]


@dataclass(slots=True)
class Run:
    """One run of one subcommand."""

    name: str
    """As ``report --only`` knows it; there may be several of a command."""
    command: str
    arguments: Mapping[str, Any]
    """The seed is one of them."""
    commit: str
    began: str
    """ISO 8601, in UTC."""
    load: float
    """Of the machine, over the minute before."""
    seconds: float = 0.0
    state: State = "complete"
    message: str = ""
    """Why it is not complete."""
    tables: list[Table] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    """Runs on one machine."""

    machine: Mapping[str, Any]
    runs: list[Run]

    def figures(self) -> Iterator[Figure]:
        return (figure for run in self.runs for table in run.tables for figure in table.figures)

    def curves(self) -> Iterator[Curve]:
        return (curve for run in self.runs for table in run.tables for curve in table.curves)

    def write(self, path: Path) -> None:
        """The whole file or nothing."""
        told = {"format": FORMAT, "machine": self.machine, "runs": [asdict(r) for r in self.runs]}
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            beside.write_text(_json(told), encoding="utf-8")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def read(path: Path) -> Results:
    told = json.loads(path.read_text(encoding="utf-8"))
    if told.get("format") != FORMAT:
        raise ValueError(f"{path} has format {told.get('format')}; this is for format {FORMAT}")
    runs = [Run(**{**run, "tables": [*map(_table, run["tables"])]}) for run in told["runs"]]
    return Results(told["machine"], runs)


def begun(command: str, arguments: Mapping[str, Any]) -> Run:
    return Run(
        name=command,
        command=command,
        arguments={k: v for k, v in arguments.items() if k not in _NOT_ARGUMENTS},
        commit=commit(),
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        load=os.getloadavg()[0],
    )


@contextlib.contextmanager
def recorded(command: str, args: argparse.Namespace) -> Iterator[Run]:
    """A run to put tables into. It notes how it ends, and is written to ``args.json``."""
    run = begun(command, vars(args))
    clock = time.monotonic()
    try:
        yield run
    except KeyboardInterrupt:
        run.state = "interrupted"
        raise
    except SystemExit as error:
        # Codes over 128 are those of signals.
        is_signal = isinstance(error.code, int) and error.code > 128
        run.state = "interrupted" if is_signal else "failed"
        run.message = "" if is_signal else f"exit code {error.code}"
        raise
    except BaseException as error:
        run.state, run.message = "failed", f"{type(error).__name__}: {error}"
        raise
    finally:
        run.seconds = time.monotonic() - clock
        if args.json is not None:
            Results(facts(), [run]).write(args.json)


def _table(told: Mapping[str, Any]) -> Table:
    figures = [_figure(figure) for figure in told["figures"]]
    return Table(**{**told, "figures": figures, "curves": [Curve(**c) for c in told["curves"]]})


def _figure(told: Mapping[str, Any]) -> Figure:
    estimates = {
        name: Estimate(**told[name]) for name in ("estimate", "control") if told[name] is not None
    }
    return Figure(**{**told, **estimates})


def _json(told: Mapping[str, Any]) -> str:
    """Readable, but the many numbers of a curve on one line."""
    lists: list[str] = []

    def shortened(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: shortened(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str):
            if len(value) > 1 and all(isinstance(item, float | int) for item in value):
                lists.append(json.dumps([float(f"{item:.5g}") for item in value]))
                return f"\0{len(lists) - 1}"
            return [shortened(item) for item in value]
        return value

    text = json.dumps(shortened(told), indent=1, ensure_ascii=False, default=str)
    return re.sub(r'"\\u0000(\d+)"', lambda found: lists[int(found[1])], text) + "\n"
