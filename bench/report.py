"""Tables, and what they were measured on."""

import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .results import Curve, Figure
from .stats import Estimate

_PACKAGES = ("asgiref", "django", "starlette", "uvicorn", "httptools", "h11", "uvloop")
_OTHERS = (
    "hypercorn",
    "granian",
    "daphne",
    "gunicorn",
    "uvicorn-worker",
    "h2",
    "gevent",
    "waitress",
    "cheroot",
    "uWSGI",
    "asgi-background",
    "django-after-response",
    "django-tasks",
    "django-tasks-db",
    "django-tasks-inprocess",
    "quart",
    "falcon",
    "celery",
    "redis",
)


@dataclass(frozen=True, slots=True)
class Table:
    """One result: what was measured, in rows of ready texts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    """The same as data."""
    curves: Sequence[Curve] = ()

    def render(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        shown = [
            "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        shown.insert(1, "-" * len(max(shown, key=len)))
        return "\n".join([self.title, "", *shown, "", *self.notes]).rstrip()


def interval(estimate: Estimate, form: str = "{:.2f}", unit: str = "") -> str:
    value, low, high = (form.format(x) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value}{unit} [{low}, {high}]"


def verdict(is_met: bool) -> str:
    return "met" if is_met else "missed"


def machine() -> str:
    """Machine, interpreter, versions and commit, a few lines."""
    it = facts()
    packages = ", ".join(f"{name} {it['versions'].get(name, '(none)')}" for name in _PACKAGES)
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    return "\n".join(
        [
            f"{it['processor']}, {it['cores']} cores, load {loads}, {it['platform']}",
            f"{it['python']}, {packages}",
            f"async_after {it['versions'].get('async-after', '(none)')}, commit {commit()}",
        ]
    )


def facts() -> dict[str, Any]:
    """What the figures depend on, but for the code."""
    versions = {name: _version(name) for name in ("async-after", *_PACKAGES, *_OTHERS)}
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": {name: found for name, found in versions.items() if found is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # no Linux
        pass
    return platform.processor() or platform.machine()


def commit(directory: Path = Path(__file__).parent) -> str:
    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        return "unknown"
    return described.stdout.strip()
