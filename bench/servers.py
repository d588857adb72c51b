"""Starting a server as a subprocess on a free port, and ending it whatever happens."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """How to start one, and how its log tells its port."""

    name: str
    command: Sequence[str]
    ready: str
    """A regular expression whose first group is the port."""


def uvicorn(application: str, *, http: str, loop: str) -> Server:
    """``application``: ``module:name``."""
    options = ["--port", "0", "--http", http, "--loop", loop, "--no-access-log"]
    return Server(
        name=f"uvicorn {http}",
        command=[sys.executable, "-m", "uvicorn", application, "--no-use-colors", *options],
        ready=r"running on http://127\.0\.0\.1:(\d+)",
    )


@contextlib.contextmanager
def running(server: Server, *, pin: bool = False) -> Iterator[int]:
    """The port of ``server`` while it runs. Errors in its log raise at the end.

    ``pin``: it gets a core of its own, and this process another.
    """
    cores = sorted(os.sched_getaffinity(0)) if pin else []
    if pin and len(cores) < 2:
        sys.exit("pinning needs two cores")
    # A session of its own: Ctrl-C must reach this process alone, which ends the server.
    process = subprocess.Popen(
        server.command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = _Log(process, server.ready)
    try:
        if pin:
            os.sched_setaffinity(process.pid, cores[:1])
            os.sched_setaffinity(0, cores[1:2])
        yield log.port()
    finally:
        if pin:
            os.sched_setaffinity(0, cores)
        _end(process)
    log.refuse_errors()


class _Log:
    """Reads the log of a server, so that its pipe never fills up."""

    def __init__(self, process: "subprocess.Popen[str]", ready: str) -> None:
        self._process = process
        self._ready = re.compile(ready)
        self._ports: SimpleQueue[int | None] = SimpleQueue()
        self._tail: deque[str] = deque(maxlen=40)
        self._errors: deque[str] = deque(maxlen=40)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._tail.append(line)
            if "ERROR" in line or "Traceback" in line or self._errors:
                self._errors.append(line)
            found = self._ready.search(line)
            if found:
                self._ports.put(int(found[1]))
        self._ports.put(None)

    def port(self) -> int:
        try:
            port = self._ports.get(timeout=START_TIMEOUT)
        except Empty:
            port = None
        if port is None:
            raise RuntimeError("the server did not start:\n" + "".join(self._tail))
        return port

    def refuse_errors(self) -> None:
        self._thread.join(STOP_TIMEOUT)
        if self._errors:
            raise RuntimeError("the server logged errors:\n" + "".join(self._errors))


def _end(process: "subprocess.Popen[str]") -> None:
    try:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Also where a second Ctrl-C cuts the waiting short.
        process.kill()
        process.wait()
