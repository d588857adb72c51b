"""The system calls of a running server."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from ..required import is_required
from ..servers.client import DEADLINE


@contextmanager
def traced(pid: int, calls: Path) -> Iterator[Path]:
    """The system calls ``sendfile`` of this process meanwhile."""
    program = shutil.which("strace")
    if program is None:
        _give_up("strace is missing")
    log = calls.with_suffix(".log")
    with log.open("wb") as stderr:
        strace = subprocess.Popen(
            [program, "-f", "-e", "trace=sendfile", "-o", calls, "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
    try:
        deadline = time.monotonic() + DEADLINE
        while " attached" not in log.read_text() and time.monotonic() < deadline:
            if strace.poll() is not None:
                _give_up(f"strace may not attach here: {log.read_text()}")
            time.sleep(0.005)
        yield calls
    finally:
        if strace.poll() is None:
            strace.send_signal(signal.SIGINT)  # it lets go
        strace.wait(DEADLINE)


def _give_up(reason: str) -> NoReturn:
    if is_required("strace"):
        pytest.fail(reason)
    pytest.skip(reason)
