"""Starting a server as a subprocess on a free port, and ending it whatever happens."""

import contextlib
import functools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from .signals import signals_deferred

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
EXAMPLE = 25
"""Lines of the log that are kept from one that is watched for."""


@dataclass(frozen=True, slots=True)
class Server:
    """How to start one, and how its log tells its port."""

    name: str
    command: Sequence[str]
    ready: str
    """A regular expression whose first group is the port."""
    fixed_port: int | None = None
    """Where its log does not tell: it is ready when this port takes connections."""


def uvicorn(application: str, *more: str, http: str, loop: str) -> Server:
    """``application``: ``module:name``. ``more``: options of uvicorn's own."""
    options = ["--port", "0", "--http", http, "--loop", loop, "--no-access-log", *more]
    return Server(
        name=f"uvicorn {http}",
        command=[sys.executable, "-m", "uvicorn", application, "--no-use-colors", *options],
        ready=r"running on http://127\.0\.0\.1:(\d+)",
    )


@dataclass(frozen=True, slots=True)
class Started:
    """A server that runs."""

    process: "subprocess.Popen[str]"
    log: "Log"
    port: int


@contextlib.contextmanager
def running(
    server: Server,
    *,
    pin: bool = False,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Iterator[int]:
    """The port of ``server`` while it runs. Errors in its log raise at the end.

    ``pin``: it gets a core of its own, and this process another.
    """
    with started(server, pin=pin, environment=environment, directory=directory) as it:
        yield it.port
    it.log.refuse_errors()


@contextlib.contextmanager
def started(
    server: Server,
    *,
    pin: bool = False,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Iterator[Started]:
    """The same, whatever its log says. It gets these environment variables more, and
    imports from ``directory`` first."""
    cores = _cores() if pin else []
    if pin and len(cores) < 2:
        sys.exit("pinning needs two cores")
    try:
        with contextlib.ExitStack() as stack:
            with signals_deferred():
                if pin:
                    os.sched_setaffinity(0, cores[:1])  # what is started here inherits it
                # A session of its own: Ctrl-C must reach this process alone, which ends the server.
                process = subprocess.Popen(
                    server.command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                    env={**os.environ, **(environment or {})},
                    cwd=directory,
                )
                stack.callback(_end, process)
            if pin:
                os.sched_setaffinity(0, cores[1:2])
            log = Log(process, server.ready)
            if server.fixed_port is not None:
                _await_port(process, log, server.fixed_port)
            yield Started(process, log, server.fixed_port or log.port())
    finally:
        if pin:
            os.sched_setaffinity(0, cores)


def can_pin() -> bool:
    return hasattr(os, "sched_getaffinity") and len(_cores()) > 1


@functools.cache
def _cores() -> Sequence[int]:
    """Of this process before it was pinned: there may be several servers."""
    return sorted(os.sched_getaffinity(0))


def free_port() -> int:
    """Below those that the system gives to clients, so that no connection takes it."""
    for port in random.sample(range(15_000, 30_000), 100):
        with contextlib.closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


def _await_port(process: "subprocess.Popen[str]", log: "Log", port: int) -> None:
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server did not start:\n" + log.tail())


class Log:
    """Reads the log of a server, so that its pipe never fills up."""

    def __init__(self, process: "subprocess.Popen[str]", ready: str) -> None:
        self._process = process
        self._ready = re.compile(ready)
        self._ports: SimpleQueue[int | None] = SimpleQueue()
        self._tail: deque[str] = deque(maxlen=40)
        self._errors: deque[str] = deque(maxlen=40)
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                self._tail.append(line)
                for text, example in self._examples.items():
                    if text in line:
                        self._counts[text] += 1
                    if self._counts[text] and len(example) < EXAMPLE:
                        example.append(line.rstrip())
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

    def watch(self, *texts: str) -> None:
        """From now on count the lines that have one of these in them."""
        self._examples = {text: [] for text in texts}

    def counts(self) -> tuple[Counter[str], dict[str, list[str]]]:
        """Of a server that has ended; and what it said the first time, by text."""
        self._thread.join(STOP_TIMEOUT)
        return self._counts, self._examples

    def tail(self) -> str:
        return "".join(self._tail)

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
        # Also where a second Ctrl-C cuts the waiting short; and its workers with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
