"""The course of ``soak``: warm-up, load, rest, a quiet phase, and the end."""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .. import servers
from ..client import Connection
from ..report import Table
from . import tables
from .control import KEEP_ALIVE
from .findings import LAST, NAMED, TRACES, Findings
from .kinds import KINDS
from .load import Load
from .work import EXCEPTIONS

AT_THE_END = {"late", "last-async", "last-sync", "never"}
"""Kinds that no client draws."""
ORDINARY = [
    "async",
    "sync",
    "at-once",
    "outcome",
    "concurrent",
    "more",
    "key",
    "choice",
    "database",
]
FAILING = ["times-out-async", "cancels-itself", "predicate-raises", "recurses", "waits"]
QUIET = 40
"""Requests of each kind while the collector is off."""
END_TIMEOUT = 15.0
"""Seconds after SIGTERM, after which it is not waited for any more."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, help="of load (default 60; --quick 10)")
    parser.add_argument("--http", choices=("httptools", "h11"), default="httptools")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")


def run(args: argparse.Namespace) -> Iterator[Table]:
    seconds = args.seconds or (10.0 if args.quick else 60.0)
    keep_alive = "--timeout-keep-alive", str(KEEP_ALIVE)
    server = servers.uvicorn("bench.soak.app:app", *keep_alive, http=args.http, loop=args.loop)
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="async-after-soak-") as directory:
        environment = {"ASYNC_AFTER_SOAK": directory}
        with servers.started(server, environment=environment) as started:
            started.log.watch(*TRACES, *NAMED)
            try:
                _course(started, findings, seconds, args.seed)
                _end(started, findings)
            except Exception:
                print(started.log.tail(), file=sys.stderr)
                raise
        findings.log, findings.examples = started.log.counts()
        findings.final = _read(Path(directory) / "final.json")
    title = f"{server.name}, {args.loop}, {seconds:g} s of load"
    is_right = True
    for table, is_table_right in tables.of(title, findings):
        is_right = is_right and is_table_right
        yield table
    if not is_right:
        print("\nsomething is wrong: see WRONG and LEAK above", file=sys.stderr)
        sys.exit(1)


class Control:
    """Asks the app, each time on a connection of its own."""

    def __init__(self, started: servers.Started) -> None:
        self._port = started.port
        self._status = Path(f"/proc/{started.process.pid}/status")

    def ask(self, name: str) -> dict[str, Any]:
        with Connection(self._port, timeout=120) as connection:
            told: dict[str, Any] = json.loads(connection.get(f"/control/{name}"))
        if "error" in told:
            raise RuntimeError(f"/control/{name}: {told['error']}")
        return told

    def settle(self) -> None:
        """Wait until the runner has nothing to do and the books are complete."""
        self.ask("settle")
        until = time.monotonic() + 10
        # A plain function that has timed out is still in its thread, and its frames behind it.
        while time.monotonic() < until:
            told = self.ask("sweep")
            if not (told["unsettled"] or told["overdue"]):
                return
            time.sleep(0.05)

    def memory(self, name: str) -> int:
        """``VmRSS`` or ``VmHWM``, in KiB."""
        for line in self._status.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
        raise LookupError(name)


def _course(started: servers.Started, findings: Findings, seconds: float, seed: int) -> None:
    control = Control(started)
    kinds = set(KINDS) - AT_THE_END
    _load(control, Load(started.port, kinds, seed + 1), min(10.0, max(3.0, seconds / 6)), {})
    control.settle()
    findings.before = control.ask("census")
    findings.memory["behind the warm-up"] = control.memory("VmRSS")
    load = Load(started.port, kinds, seed)
    findings.tally = load.tally
    _load(control, load, seconds, findings.memory)
    findings.undrawn = sorted(kinds - set(load.tally.kinds))
    control.settle()
    findings.after = control.ask("census")
    findings.memory["at rest"] = control.memory("VmRSS")
    findings.memory["peak"] = control.memory("VmHWM")
    failing = [*FAILING, *(f"raise-{name}" for name in EXCEPTIONS)]
    for phase, names in {
        "with callbacks= alone": [""],
        "ordinary": ORDINARY,
        "failing": failing,
    }.items():
        findings.garbage[phase] = _quietly(started.port, control, names)
    findings.rest = control.ask("books")


def _load(control: Control, load: Load, seconds: float, memory: dict[str, int]) -> None:
    """Sweeps the books once a second, or they would keep every callback alive."""

    async def sweep() -> None:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            await asyncio.to_thread(control.ask, "sweep")
            for share in (1, 2):
                if passed > seconds * share / 3:
                    memory.setdefault(f"at {share}/3", control.memory("VmRSS"))
            if sys.stderr.isatty():
                line = f"\r{passed:.0f} of {seconds:g} s, {load.tally.requests} requests "
                print(line, end="", file=sys.stderr, flush=True)
            await asyncio.sleep(min(1.0, seconds / 6))
        memory["at the end"] = control.memory("VmRSS")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(load.run(seconds))
            group.create_task(sweep())

    asyncio.run(both())
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _quietly(port: int, control: Control, names: list[str]) -> dict[str, Any]:
    """One request at a time, nothing collected meanwhile; what only the collector could free."""
    control.ask("watch")
    with Connection(port) as connection:
        for number in range(QUIET):
            for name in names:
                view = "plain-sync" if number % 2 else "plain"
                connection.get(f"/{view}?cb={name}")
    control.settle()
    return {**control.ask("garbage"), "requests": QUIET * len(names)}


def _end(started: servers.Started, findings: Findings) -> None:
    """SIGTERM while callbacks run."""
    with Connection(started.port) as connection:
        for name, count in LAST.items():
            for _ in range(count):
                connection.get(f"/plain?cb={name}")
    control, until = Control(started), time.monotonic() + 5
    while control.ask("sweep")["waiting"] and time.monotonic() < until:
        time.sleep(0.02)
    began = time.monotonic()
    started.process.send_signal(signal.SIGTERM)
    try:
        findings.code = started.process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        pass
    findings.end_seconds = time.monotonic() - began


def _read(path: Path) -> dict[str, Any]:
    """The books that the process wrote last, if it came to that."""
    try:
        told: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return told
