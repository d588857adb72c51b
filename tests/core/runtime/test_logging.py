"""The log: constant events, and what they say as attributes of the record too."""

import ast
import asyncio
import logging
import re
import typing
from pathlib import Path
from typing import Any

import pytest

import async_after
from async_after import Callback, after_response
from async_after._core.runtime.log import Event

from ..conftest import DEADLINE, MakeRunner, loop_exchange, responding

PACKAGE = Path(async_after.__file__).parent
EVENTS = set(typing.get_args(Event))
LINE = "async_after"


def of(records: list[logging.LogRecord], event: str) -> dict[str, Any]:
    """The attributes of the one record with this event."""
    [found] = [vars(record) for record in records if vars(record).get("event") == event]
    return found


def logged_events() -> set[str]:
    """Those that the source names, in the calls of ``log``."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func) != "log":
                continue
            event = node.args[1]
            assert isinstance(event, ast.Constant), f"{path}:{node.lineno}"
            found.add(str(event.value))
    return found


def test_each_event_is_logged_somewhere() -> None:
    assert logged_events() == EVENTS


def test_readme_lists_the_events() -> None:
    readme = (PACKAGE.parent / "README.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \| (?:debug|info|warning|error)", readme, re.MULTILINE))
    assert told == EVENTS


async def test_a_failure(make_runner: MakeRunner, caplog: pytest.LogCaptureFixture) -> None:
    runner = make_runner()

    def fail(secret: str) -> None:
        raise ValueError("no")

    with responding(loop_exchange(runner, "/a"), status=201):
        callback: Callback[Any] = after_response(fail, "hunter2")
    await runner.drain(DEADLINE)
    values = of(caplog.records, "callback_failed")
    assert values["callback"] == callback.name
    assert (values["method"], values["path"], values["status"]) == ("GET", "/a", 201)
    assert values["state"] == "failed"
    assert values["levelname"] == "ERROR"
    assert values["exc_info"][1] is callback.exception()
    # What an aggregator groups by.
    assert values["msg"] == "callback %s failed"
    assert "hunter2" not in str(values)


async def test_a_timeout_and_a_skip(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, LINE)
    runner = make_runner()
    with responding(loop_exchange(runner)):
        after_response.using(timeout=0.01)(asyncio.sleep, DEADLINE)
        after_response.using(when="disconnect", name="not wanted")(int)
    await runner.drain(DEADLINE)
    assert of(caplog.records, "callback_timed_out")["timeout"] == 0.01
    ended = of(caplog.records, "callback_ended")
    assert (ended["callback"], ended["state"]) == ("not wanted", "skipped")


async def test_a_shutdown(make_runner: MakeRunner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LINE)
    runner = make_runner(wait_timeout=0.01, close_timeout=0.1)
    with responding(loop_exchange(runner)):
        after_response.using(name="first")(asyncio.sleep, DEADLINE)
        after_response.using(name="second")(int)
    await runner.aclose()
    assert of(caplog.records, "shutdown_began")["exchanges"] == 1
    dropped = [vars(r) for r in caplog.records if vars(r)["event"] == "callback_dropped"]
    assert {values["callback"] for values in dropped} == {"first", "second"}
    assert all("wait_timeout" in values["reason"] for values in dropped)
    assert of(caplog.records, "shutdown_lost")["dropped"] == 2


async def test_a_path_cannot_forge_a_line(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    runner = make_runner()

    def fail() -> None:
        raise ValueError

    path = "/x\nERROR forged\x1b[31m/caf\xe9"
    exchange = loop_exchange(runner, path)
    with responding(exchange):
        after_response(fail)
    await runner.drain(DEADLINE)
    values = of(caplog.records, "callback_failed")
    assert values["path"] == "/x\\nERROR forged\\x1b[31m/caf\xe9"
    assert values["message"].isprintable()
    assert exchange.sealed.path == path
    assert repr(exchange.sealed).isprintable()
