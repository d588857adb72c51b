"""``bench latency`` runs, its verdict can fail, and Ctrl-C keeps what was measured."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import latency_table, runs
from bench.latency_measure import Pairs
from bench.stats import Estimate
from bench.wsgi_latency import NOT_LATER, judge

ROOT = Path(__file__).parents[1]
DEADLINE = 30.0


@pytest.mark.parametrize(
    ("added", "verdict"),
    [
        (Estimate(10e-6, -5e-6, 200e-6), NOT_LATER),
        (Estimate(10e-6, 5e-6, 45e-6), NOT_LATER),
        (Estimate(90e-6, 50e-6, 130e-6), "later by 90 µs"),
        (Estimate(1.0, 0.99, 1.01), "WAITS 1.00 s"),
        (Estimate(0.4, -0.1, 1.01), "WAITS 0.40 s"),
    ],
)
def test_the_verdict(added: Estimate, verdict: str) -> None:
    assert judge(added, 1e-3, 60) == verdict


@pytest.mark.parametrize(
    ("control", "added", "baseline", "verdicts"),
    [
        (0.0, 40e-6, 1e-3, ["quiet", "met"]),
        (0.0, 60e-6, 1e-3, ["quiet", "missed"]),
        (0.0, 60e-6, 4e-3, ["quiet", "met"]),  # 2 % of the median are 80 µs
        (70e-6, 0.0, 1e-3, ["noisy", "noisy"]),
        (-70e-6, 60e-6, 1e-3, ["noisy", "noisy"]),
        (70e-6, 90e-6, 1e-3, ["noisy", "missed"]),
    ],
)
def test_the_aim_under_asgi(
    control: float, added: float, baseline: float, verdicts: list[str]
) -> None:
    def pairs(more: float) -> Pairs:
        return Pairs([baseline] * 20, [baseline + more] * 20)

    samples = {("none", "next request"): pairs(control), ("async", "next request"): pairs(added)}
    table = latency_table.table("title", "server", samples, 40, seed=1)
    assert [row[-1] for row in table.rows] == verdicts
    assert [figure.name for figure in table.figures] == [
        "latency/server/control: none/next request",
        "latency/server/async sleep 1 s/next request",
    ]


@pytest.mark.parametrize(("lane", "waits"), [("threads", False), ("inline", True)])
def test_a_server(lane: str, waits: bool) -> None:
    """Only inline do the next request and EOF wait for the callback."""
    command = ["latency", "--wsgi", "--server", "gunicorn-gthread", "--pairs", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *command, "--lane", lane],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for figure in ("next request", "EOF after close"):
        for callback in ("async", "sync"):
            [line] = [
                line
                for line in ended.stdout.splitlines()
                if line.startswith(f"{callback} sleep") and figure in line
            ]
            assert ("WAITS" in line) is waits, ended.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_and_keeps_what_was_measured(
    number: signal.Signals, tmp_path: Path
) -> None:
    path = tmp_path / "found.json"
    options = ["--server", "uvicorn-httptools", "--app", "bare", "--pairs", "1000"]
    with _on_a_terminal("latency", *options, "--json", path) as it:
        it.wait_for(rb"[1-9]\d* %")
        _end(it.process, number)
        assert it.process.returncode == (130 if number == signal.SIGINT else 143), it.output()
    [run] = runs.read(path).runs
    assert run.state == "interrupted"
    [table] = run.tables
    assert len(table.figures) == 9
    assert "INTERRUPTED" in table.render()
    assert "uvicorn httptools, bare app" in it.output()


def test_ctrl_c_in_a_report_does_too(tmp_path: Path) -> None:
    with _on_a_terminal("report", "--only", "latency", "--quick", "--out", tmp_path) as it:
        it.wait_for(rb"[1-9]\d* %")
        _end(it.process, signal.SIGINT)
        assert it.process.returncode == 130, it.output()
    [run] = runs.read(tmp_path / "results.json").runs
    assert (run.name, run.state) == ("latency", "interrupted")
    assert run.tables
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "**INTERRUPTED**" in report


def _end(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """With this signal; and then nothing is left of what it had started."""
    family = _family(process.pid)
    assert family, "no server runs"
    process.send_signal(number)
    process.wait(DEADLINE)
    assert not [pid for pid in family if _is_alive(pid)]


def _family(pid: int) -> list[int]:
    """All that it has started, and they in turn."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [*children, *(pid for child in children for pid in _family(child))]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@dataclass
class _Command:
    process: "subprocess.Popen[bytes]"
    chunks: list[bytes]
    has_more: threading.Condition

    def wait_for(self, pattern: bytes) -> None:
        def is_there() -> bool:
            return re.search(pattern, b"".join(self.chunks)) is not None

        with self.has_more:
            assert self.has_more.wait_for(is_there, DEADLINE), self.output()

    def output(self) -> str:
        return b"".join(self.chunks).decode(errors="replace")


@contextmanager
def _on_a_terminal(*arguments: str | Path) -> Iterator[_Command]:
    """Where it shows its progress."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    command = _Command(process, [], threading.Condition())

    def read() -> None:
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # nobody has it open any more
                return
            with command.has_more:
                command.chunks.append(data)
                command.has_more.notify_all()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    with closing(os.fdopen(ours, "rb", closefd=True)):
        try:
            yield command
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(DEADLINE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            thread.join(DEADLINE)
