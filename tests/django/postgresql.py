"""A PostgreSQL server for the tests: made when first asked for, ended by its pid.

It listens on a unix socket in its own directory only, and belongs to an
unprivileged user: PostgreSQL refuses to run as root.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from tests.processes import refuse_in_process

DEADLINE = 30.0
"""Seconds after which starting or ending it has failed; it takes half a second."""
_USER = "postgres"
_WORKING_DIRECTORIES = (tempfile.gettempdir(), "/tmp", "/var/tmp")


def find_programs() -> Path | None:
    """The directory that has PostgreSQL's server: of the path, or Debian's newest."""
    found = shutil.which("initdb")
    candidates = [Path(found).resolve().parent] if found else []
    by_version = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: _number(path.parent.name)
    )
    for directory in [*candidates, *reversed(by_version)]:
        if all((directory / name).exists() for name in ("initdb", "postgres")):
            return directory
    return None


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


@dataclass(frozen=True)
class Session:
    """A row of ``pg_stat_activity``."""

    pid: int
    state: str | None


class PostgreSQL:
    """A running server, and a connection to look at it with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._control = psycopg.connect(
            host=str(directory), user=_USER, dbname="postgres", autocommit=True
        )
        self._numbers = count(1)

    def new_database(self) -> str:
        """A database that nobody else uses, so that all of its sessions are known."""
        name = f"test_{next(self._numbers)}"
        self._control.execute(f'CREATE DATABASE "{name}"')
        return name

    def settings(self, database: str) -> dict[str, Any]:
        """An entry for Django's DATABASES."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database,
            "USER": _USER,
            "HOST": str(self.directory),
        }

    def sessions(self, database: str) -> list[Session]:
        """What is connected to this database now."""
        rows = self._control.execute(
            "SELECT pid, state FROM pg_stat_activity WHERE datname = %s", [database]
        )
        return [Session(*row) for row in rows]

    def terminate(self, pid: int) -> None:
        """Kill a session, as an administrator or a restart of the server does."""
        cursor = self._control.execute(
            "SELECT pg_terminate_backend(%s, %s)", [pid, int(DEADLINE * 1000)]
        )
        assert cursor.fetchone() == (True,), f"session {pid} has not ended"

    def close(self) -> None:
        self._control.close()


@contextmanager
def running(programs: Path) -> Iterator[PostgreSQL]:
    """Make a cluster and serve it; nothing of it is left afterwards."""
    refuse_in_process("PostgreSQL")
    owner = _owner()
    directory = Path(tempfile.mkdtemp(prefix="async-after-", dir=_reachable(owner)))
    try:
        if owner is not None:
            os.chown(directory, owner.pw_uid, owner.pw_gid)
        identity: dict[str, Any] = {}
        if owner is not None:
            identity = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        with _serving(programs, directory, identity) as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _serving(programs: Path, directory: Path, identity: dict[str, Any]) -> Iterator[PostgreSQL]:
    log = directory / "log"
    common: dict[str, Any] = {
        # Not where we are: its user may not enter that.
        "cwd": directory,
        "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
        "stdin": subprocess.DEVNULL,
        "stderr": subprocess.STDOUT,
        **identity,
    }
    made = subprocess.run(
        [
            *(programs / "initdb", "-D", directory / "data", "-U", _USER),
            *("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"),
        ],
        stdout=subprocess.PIPE,
        timeout=DEADLINE,
        check=False,
        **common,
    )
    if made.returncode:
        raise RuntimeError(f"initdb failed:\n{made.stdout.decode(errors='replace')}")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *_with_us(),
                *(programs / "postgres", "-D", directory / "data", "-k", directory),
                *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"),
            ],
            stdout=output,
            **common,
        )
    try:
        server = _connected(process, directory, log)
        try:
            yield server
        finally:
            server.close()
    finally:
        _end(process)


def _connected(process: "subprocess.Popen[bytes]", directory: Path, log: Path) -> PostgreSQL:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return PostgreSQL(directory)
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"PostgreSQL does not answer:\n{log.read_text(errors='replace')}"
                ) from error
        time.sleep(0.01)


def _end(process: "subprocess.Popen[bytes]") -> None:
    # SIGINT, "fast shutdown": sessions are ended. SIGTERM would wait for them.
    for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(sign)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            continue
        return


def _with_us() -> list[str]:
    """Linux: the server ends too when this process is killed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "QUIT"] if setpriv else []


def _owner() -> pwd.struct_passwd | None:
    """Whom the server belongs to if we are root; ``None`` if to us."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL refuses to run as root, and there is no user for it")


def _reachable(owner: pwd.struct_passwd | None) -> str:
    """A directory for temporary files that this user may enter."""
    for directory in _WORKING_DIRECTORIES:
        path = Path(directory).resolve()
        if owner is None or all(p.stat().st_mode & 0o001 for p in (path, *path.parents)):
            return str(path)
    raise RuntimeError(f"{owner} may enter none of {_WORKING_DIRECTORIES}")
