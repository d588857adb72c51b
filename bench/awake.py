"""Keeps cores from falling asleep: ``python -m bench.awake CORE``.

A core with nothing to do sleeps, on a virtual machine with other tenants for long: what comes
next finds it slow to wake and its caches empty, which is several times what is measured here.
The scheduler gives this program a core only while nobody else wants it.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from .signals import signals_deferred


def spin(core: int) -> None:
    """Until the parent has ended."""
    parent = os.getppid()
    os.sched_setaffinity(0, [core])
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    while os.getppid() == parent:
        for _ in range(1_000_000):
            pass


@contextlib.contextmanager
def awake(cores: Sequence[int]) -> Iterator[None]:
    """These cores, while inside."""
    with contextlib.ExitStack() as stack:
        for core in cores:
            with signals_deferred():
                command = [sys.executable, "-m", "bench.awake", str(core)]
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, start_new_session=True
                )
                stack.callback(_end, process)
        yield


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


if __name__ == "__main__":
    spin(int(sys.argv[1]))
