"""Measurements in processes of their own, which tell in JSON what they have found."""

import contextlib
import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .signals import signals_deferred

ROOT = Path(__file__).parents[1]
TIMEOUT = 600.0


@dataclass(frozen=True, slots=True)
class Worker:
    process: "subprocess.Popen[str]"
    name: str
    log: IO[str]

    def ask(self) -> Any:
        """For one more line, by an empty one."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # told() knows why
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return self.told()

    def told(self) -> Any:
        """Its next line."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], TIMEOUT)[0]:
            raise RuntimeError(f"{self.name} has told nothing for {TIMEOUT:g} s")
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.log.seek(0)
        raise RuntimeError(f"{self.name} failed:\n{self.log.read()}")


@contextlib.contextmanager
def started(module: str, *arguments: str, directory: Path = ROOT) -> Iterator[Worker]:
    """``python -m module``, which imports from ``directory`` first. It ends with this
    one's interest in it."""
    command = [sys.executable, "-m", module, *arguments]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile("w+"))
        with signals_deferred():
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C must reach this process alone, which ends the other.
                start_new_session=True,
                cwd=directory,
            )
            stack.callback(_end, process)
        yield Worker(process, " ".join(command[2:]), log)


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
