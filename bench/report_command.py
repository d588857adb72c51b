"""Runs the others and writes results.json, report.md and the plots.

Each subcommand runs in a process of its own. What Ctrl-C leaves undone is said
so in the report, which has what was measured until then. ``--from`` only renders
again what a results.json has; ``--compare`` says what is better or worse than
in another one. Missed aims are reported as missed, and are no error.
"""

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import compare, report_markdown, runs, summary
from .report import Table, facts
from .signals import signals_deferred

RESULTS = Path(__file__).parent / "results"
PATIENCE = 60.0
"""Seconds that a subcommand has to end its servers and to write what it has."""


@dataclass(frozen=True, slots=True)
class Step:
    command: str
    full: str = ""
    """Its options; the seed and ``--quick`` are passed on."""
    quick: str = ""
    is_in_quick: bool = True
    """Else ``--quick`` leaves it out, if it is not asked for by name."""


STEPS: Mapping[str, Step] = {
    "latency": Step("latency", "--more", "--pairs 8"),
    "wsgi": Step("latency", "--wsgi --pairs 40", "--wsgi --pairs 4", is_in_quick=False),
    "validate": Step("latency", "--validate", "--validate", is_in_quick=False),
    "rivals": Step(
        "rivals", "--pairs 30", "--way starlette --way create_task-kept --way async_after"
    ),
    "interference": Step("interference"),
    "idle": Step("idle", "--rounds 1200"),
    "dispatch": Step("dispatch"),
    "starvation": Step("starvation", "--rounds 3"),
    "soak": Step("soak", "--seconds 20", "--seconds 4", is_in_quick=False),
    "scale": Step("scale", "--seconds 80"),
}
"""By the names that ``--only`` takes; all of them end in 25 minutes, ``--quick`` in 2."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=STEPS, metavar="NAME", help=", ".join(STEPS))
    parser.add_argument(
        "--keep", action="store_true", help="with --only: keep the others that results.json has"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="a directory (bench/results)")
    parser.add_argument("--from", type=Path, dest="source", metavar="FILE", help="only render it")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="what differs from it")


def run(args: argparse.Namespace) -> Iterator[Table]:
    # Before a run of many minutes, or one that overwrites what is to be read.
    old = None if args.compare is None else runs.read(args.compare)
    path = args.out / "results.json"
    if args.source is not None:
        results = runs.read(args.source)
        if args.source.resolve() != path.resolve():
            results.write(path)
        yield from _rendered(results, old, args)
        return
    results = runs.Results(facts(), [])
    kept = _kept(path, results, args) if args.keep else []
    try:
        _measure(results, args)
    except (KeyboardInterrupt, SystemExit):
        yield from _finished(results, kept, old, args)
        raise
    yield from _finished(results, kept, old, args)
    if wrong := [run for run in results.runs if run.state == "failed"]:
        sys.exit(f"failed: {', '.join(f'{it.name} ({it.message})' for it in wrong)}")


def _measure(results: runs.Results, args: argparse.Namespace) -> None:
    names = [
        name
        for name, step in STEPS.items()
        if step.command in args.commands
        and (name in args.only if args.only else step.is_in_quick or not args.quick)
    ]
    began = time.monotonic()
    for number, name in enumerate(names, 1):
        passed = time.monotonic() - began
        print(f"\n== {name} ({number} of {len(names)}, {passed:.0f} s)", flush=True)
        with tempfile.TemporaryDirectory(prefix="async-after-report-") as directory:
            path = Path(directory) / "run.json"
            run = runs.begun(STEPS[name].command, {"seed": args.seed, "quick": args.quick})
            try:
                code = _child(STEPS[name], args, path)
                run.state, run.message = "failed", f"it ended with {code} and told nothing"
            except (KeyboardInterrupt, SystemExit):
                run.state = "interrupted"
                raise
            finally:
                if path.exists():  # also what Ctrl-C has left
                    [run] = runs.read(path).runs
                run.name = name
                results.runs.append(run)


def _child(step: Step, args: argparse.Namespace, path: Path) -> int:
    """Runs a subcommand, in a session of its own: it gets one Ctrl-C for one of ours."""
    command = [sys.executable, "-m", "bench", step.command, "--json", str(path)]
    command += [
        "--seed",
        str(args.seed),
        *(["--quick", *step.quick.split()] if args.quick else step.full.split()),
    ]
    with contextlib.ExitStack() as stack:
        with signals_deferred():
            process = subprocess.Popen(
                command, cwd=Path(__file__).parents[1], start_new_session=True
            )
            stack.callback(_end, process)
        return process.wait()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Not SIGKILL but at last: its servers would stay."""
    until = time.monotonic() + PATIENCE
    while process.poll() is None:
        try:
            process.send_signal(signal.SIGINT)
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
        except (KeyboardInterrupt, SystemExit):
            continue  # once more, to somebody who has no patience


def _kept(path: Path, results: runs.Results, args: argparse.Namespace) -> list[runs.Run]:
    """What another run on this machine has measured, and this one does not."""
    if not path.exists():
        return []
    there = runs.read(path)
    if there.machine != results.machine:
        sys.exit(f"{path} is of another machine or of other versions; leave --keep away")
    return [run for run in there.runs if run.name not in (args.only or STEPS)]


def _finished(
    results: runs.Results,
    kept: Sequence[runs.Run],
    old: runs.Results | None,
    args: argparse.Namespace,
) -> Iterator[Table]:
    results.runs[:0] = kept
    results.write(args.out / "results.json")
    yield from _rendered(results, old, args)


def _rendered(
    results: runs.Results, old: runs.Results | None, args: argparse.Namespace
) -> Iterator[Table]:
    tables = [summary.aims(results.figures())]
    if old is not None:
        tables.append(compare.table(old, results, str(args.compare)))
    yield from tables
    pictures = _plots(results, args.out)
    path = args.out / "report.md"
    path.write_text(report_markdown.render(results, tables, pictures), encoding="utf-8")
    print(f"\n{path}", flush=True)


def _plots(results: runs.Results, directory: Path) -> Mapping[str, str]:
    try:
        from . import plots  # loads matplotlib, which nobody else needs
    except ModuleNotFoundError as error:
        print(f"no plots: {error}", file=sys.stderr)
        return {}
    return plots.write(results, directory)
