"""Measurements in a process of their own, which tells what it has found in JSON."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from .signals import signals_deferred

ROOT = Path(__file__).parents[1]
TIMEOUT = 600.0


def told(module: str, *arguments: str, directory: Path = ROOT) -> Any:
    """What ``python -m module`` prints. Its imports come from ``directory`` first."""
    command = [sys.executable, "-m", module, *arguments]
    with contextlib.ExitStack() as stack:
        with signals_deferred():
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # Ctrl-C must reach this process alone, which ends the other.
                start_new_session=True,
                cwd=directory,
            )
            stack.callback(_end, process)
        printed, complaints = process.communicate(timeout=TIMEOUT)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[2:])} failed:\n{complaints}")
    return json.loads(printed)


def _end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
