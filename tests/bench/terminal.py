"""``python -m bench`` on a terminal, where it shows its progress; and what a signal leaves."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..processes import refuse_in_process
from ..servers.harness import wait_until

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0


def run_bench(
    *arguments: str | Path, timeout: float, directory: Path = ROOT
) -> "subprocess.CompletedProcess[str]":
    """Without a terminal, to its end. ``directory``: a checkout."""
    refuse_in_process(f"bench {arguments[0]}")
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@dataclass
class Command:
    process: "subprocess.Popen[bytes]"
    chunks: list[bytes]
    has_more: threading.Condition

    def wait_for(self, pattern: bytes, deadline: float = DEADLINE) -> None:
        def is_there() -> bool:
            return re.search(pattern, b"".join(self.chunks)) is not None

        with self.has_more:
            assert self.has_more.wait_for(is_there, deadline), self.output()

    def output(self) -> str:
        return b"".join(self.chunks).decode(errors="replace")

    def end(self, number: signal.Signals) -> None:
        """With this signal; and then nothing is left of what it had started."""
        until = time.monotonic() + DEADLINE
        while not (family := _family(self.process.pid)):  # between two of them
            assert time.monotonic() < until, "it has started nothing"
            time.sleep(0.001)
        self.process.send_signal(number)
        self.process.wait(DEADLINE)
        # Some end by themselves, as soon as they see that it has.
        wait_until(
            lambda: not any(map(_is_alive, family)),
            lambda: f"{[pid for pid in family if _is_alive(pid)]} are left",
        )


@contextmanager
def on_a_terminal(*arguments: str | Path) -> Iterator[Command]:
    refuse_in_process(f"bench {arguments[0]}")
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
    command = Command(process, [], threading.Condition())

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


def _family(pid: int) -> list[int]:
    """All that it has started, and they in turn."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        told = [(task / "children").read_text() for task in tasks]
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return []
    children = [int(child) for each in told for child in each.split()]
    return [*children, *(pid for child in children for pid in _family(child))]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
