"""The plugin of the first hour: it selects, and its last lines tell what was not run."""

from collections import Counter
from collections.abc import Generator, Iterable
from typing import Any

import pytest

from . import processes
from .first_hour import LEFT_OUT, belongs, mark_all

COMMAND = "python -m pytest"
OTHERS = "other servers"
TOLD_APART = ("soak", "postgresql", "uwsgi", "mod_wsgi", "matrix", processes.IN_PROCESS, OTHERS)
"""The markers by which the last lines count: each test by the first that it has."""


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all", action="store_true", help="run all tests, and not the first hour's only"
    )


def register(config: pytest.Config) -> None:
    config.pluginmanager.register(Selection(), "first-hour")


def _is_selected(config: pytest.Config) -> bool:
    """By paths, ``-k`` or ``-m``. (The workers of xdist have the same arguments.)"""
    is_path = config.args_source is not pytest.Config.ArgsSource.TESTPATHS
    return is_path or bool(config.option.keyword or config.option.markexpr)


def is_everything(config: pytest.Config) -> bool:
    return config.option.all and not _is_selected(config)


def is_first_hour(config: pytest.Config) -> bool:
    """Whether nobody has selected anything else."""
    return not config.option.all and not _is_selected(config)


class Selection:
    def __init__(self) -> None:
        self._left_out: dict[str, int] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        mark_all(items)
        if not is_first_hour(config):
            return
        left_out = [item for item in items if not belongs(item)]
        items[:] = [item for item in items if belongs(item)]
        config.hook.pytest_deselected(items=left_out)
        self._left_out = dict(Counter(map(_group, left_out)))
        if hasattr(config, "workeroutput"):
            config.workeroutput["left_out"] = self._left_out

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker of xdist has ended. All of them collect the same."""
        told = getattr(node, "workeroutput", {})  # one that has crashed has none
        self._left_out = told.get("left_out", self._left_out)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        processes.begin(item)
        try:
            return (yield)
        finally:
            processes.end()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        yield  # the summary of failures and skips comes first
        for line in _not_run(terminalreporter.stats.get("skipped", ())):
            terminalreporter.write_line(line)
        if self._left_out:
            terminalreporter.write_line(_told(self._left_out), bold=True)


def _group(item: pytest.Item) -> str:
    return next((n for n in TOLD_APART if item.get_closest_marker(n) is not None), OTHERS)


def _told(left_out: dict[str, int]) -> str:
    counts = ", ".join(f"{name} {left_out[name]}" for name in TOLD_APART if name in left_out)
    return (
        f"left out: {sum(left_out.values())} tests ({counts}): {COMMAND} --all runs them too;"
        f" -m NAME those of one marker; -m {LEFT_OUT} all that was left out"
    )


def _not_run(reports: Iterable[Any]) -> list[str]:
    """One line for each reason."""
    reasons = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)
    return [
        f"not run: {number} test{'s' if number > 1 else ''}: {why}"
        for why, number in reasons.most_common()
    ]
