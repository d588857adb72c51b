"""``ASYNC_AFTER``: pushed by Django's signal, and refused with what would be right."""

import asyncio
import subprocess
import sys
from typing import Any, ClassVar

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings

from async_after import CallbackState, NoActiveExchange, after_response, exchange_scope, get_runner
from async_after._core import conf
from async_after._core.runtime import Pace
from async_after.asgi import AfterResponseMiddleware as ASGIMiddleware
from async_after.django import AfterResponseMiddleware
from tests.django.site import views


class Ear:
    """An instrument that keeps what it hears of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def registered(self, callback: Any) -> None:
        self.heard.append("registered")

    def started(self, callback: Any) -> None:
        self.heard.append("started")

    def ended(self, callback: Any) -> None:
        self.heard.append("ended")


TIMES = ("TIMEOUT", "SLOW_STEP", "SWITCH_INTERVAL", "WAIT_TIMEOUT", "CLOSE_TIMEOUT")
WRONG: list[tuple[Any, str]] = [
    ({"LIMT": 1}, r"unknown key 'LIMT'. The keys are: CLOSE_TIMEOUT, INSTRUMENTS, LIMIT"),
    ({"limit": 1}, "unknown key 'limit'.* Did you mean 'LIMIT'"),
    ({3: 1}, "unknown key 3"),
    ({"LIMIT": 0}, r"ASYNC_AFTER\['LIMIT'\] must be an integer, 1 or more, not 0"),
    ({"LIMIT": "10"}, "must be an integer, 1 or more, not '10'"),
    ({"LIMIT": True}, "must be an integer, 1 or more, not True"),
    ({"MAX_THREADS": 1.5}, "must be an integer, 1 or more, not 1.5"),
    ({"TIMEOUT": 0}, "must be a number of seconds above 0, or None, not 0"),
    ({"TIMEOUT": float("nan")}, "above 0, or None, not nan"),
    *(
        ({name: 10**400}, rf"{name}.*number of seconds.*, not 10+ \(at most \d+\)")
        for name in TIMES
    ),
    ({"SWITCH_INTERVAL": 0}, "must be a number of seconds, 0.000001 or more, or None, not 0"),
    ({"WAIT_TIMEOUT": -1}, "must be a number of seconds, 0 or more, not -1"),
    ({"CLOSE_TIMEOUT": None}, "0 or more, not None"),
    ({"INSTRUMENTS": [object()]}, "registered, started and ended"),
    ({"INSTRUMENTS": "tests"}, "registered, started and ended"),
    ({"INSTRUMENTS": ["nowhere.Ear"]}, "'nowhere.Ear' cannot be imported .ModuleNotFoundError"),
    ({"INSTRUMENTS": ["django.test.Client"]}, "'django.test.Client' has none of the hooks"),
    ({"OUTSIDE_REQUEST": "ignore"}, 'must be "raise" or "run"'),
    ({"OUTSIDE_REQUEST": []}, 'must be "raise" or "run"'),
    (["LIMIT"], "ASYNC_AFTER must be a dict, not list"),
]


@pytest.mark.parametrize(("value", "message"), WRONG)
def test_wrong_settings_are_refused_where_they_enter(value: Any, message: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    with override_settings(ASYNC_AFTER=value):
        for enter in (
            lambda: ASGIMiddleware(app),
            lambda: AfterResponseMiddleware(views.sync_view),
            lambda: after_response(print),
        ):
            with pytest.raises(ImproperlyConfigured, match=message):
                enter()
        found = [error for error in run_checks() if error.id == "async_after.E001"]
        assert len(found) == 1


def test_every_problem_is_told_at_once() -> None:
    with override_settings(ASYNC_AFTER={"LIMT": 1, "TIMEOUT": 0}):
        assert len([e for e in run_checks() if e.id == "async_after.E001"]) == 2
    assert not [e for e in run_checks() if e.id == "async_after.E001"]


def test_settings_are_pushed() -> None:
    """By ``setting_changed``: what is changed in place is not seen."""
    ear = Ear()
    views.todo.append(lambda: None)
    Client().get("/sync")
    settings: dict[str, Any] = {"INSTRUMENTS": [ear]}
    with override_settings(ASYNC_AFTER=settings):
        Client().get("/sync")
        with override_settings(ASYNC_AFTER={}):
            Client().get("/sync")
        settings["INSTRUMENTS"] = []  # changed in place
        Client().get("/sync")
    Client().get("/sync")
    assert ear.heard == ["registered", "started", "ended"] * 2


def test_instruments_of_settings_that_are_no_more_hear_nothing() -> None:
    """Not of callbacks either that no runner is asked for: they end before they begin."""
    ear = Ear()
    with override_settings(ASYNC_AFTER={"INSTRUMENTS": [ear]}), exchange_scope():
        after_response(print)
    assert ear.heard == ["registered", "started", "ended"]
    with exchange_scope():
        assert after_response(print).cancel()
    assert ear.heard == ["registered", "started", "ended"]


class Counted(Ear):
    """One that ``INSTRUMENTS`` names by its class, or by its dotted path."""

    made: ClassVar[list["Counted"]] = []

    def __init__(self) -> None:
        super().__init__()
        self.made.append(self)


@pytest.mark.parametrize("given", [Counted, f"{__name__}.Counted"])
def test_instruments_by_class_and_by_dotted_path(given: object) -> None:
    """One is made when the settings are read, and stays until they change."""
    views.todo.append(lambda: None)
    before = len(Counted.made)
    with override_settings(ASYNC_AFTER={"INSTRUMENTS": [given]}):
        for debug in (True, False):
            with override_settings(DEBUG=debug):
                Client().get("/sync")
        Client().get("/async")
    [instrument] = Counted.made[before:]
    assert instrument.heard == ["registered", "started", "ended"] * 3


def test_an_instrument_that_cannot_be_made() -> None:
    class Broken(Ear):
        def __init__(self) -> None:
            raise KeyError("no such bucket")

    message = r"INSTRUMENTS'\] cannot be made \(KeyError: 'no such bucket'"
    with (
        override_settings(ASYNC_AFTER={"INSTRUMENTS": [Broken]}),
        pytest.raises(ImproperlyConfigured, match=message),
    ):
        after_response(print)


def test_settings_that_become_wrong_are_refused_until_they_are_right() -> None:
    views.todo.append(lambda: None)
    client = Client()
    with override_settings(ASYNC_AFTER={"LIMIT": 5}):
        client.get("/sync")
        with override_settings(ASYNC_AFTER={"LIMIT": 0}):
            for _ in range(2):
                with pytest.raises(ImproperlyConfigured, match="LIMIT"):
                    client.get("/sync")
        client.get("/sync")
    assert [callback.state.name for callback in views.registered] == ["SUCCEEDED"] * 2


def test_a_timeout_from_the_settings() -> None:
    views.todo.append(lambda: asyncio.sleep(60))
    with override_settings(ASYNC_AFTER={"TIMEOUT": 0.01}):
        Client().get("/sync")
    assert views.registered[0].state is CallbackState.TIMED_OUT


async def test_settings_that_become_wrong_lose_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callbacks that are under way still run, within the last right bounds."""
    # It is said once a minute, and another test may have made it say so.
    monkeypatch.setattr(conf, "_wrong_pace", Pace(1, 60.0))
    views.todo.append(lambda: None)
    response: Any = AfterResponseMiddleware(views.sync_view)(_request())
    with override_settings(ASYNC_AFTER={"LIMIT": 0}):
        response.close()
        await get_runner().drain(10)
    assert views.registered[0].state is CallbackState.SUCCEEDED
    assert "the last right settings are kept" in caplog.text


def _request() -> Any:
    from django.test import RequestFactory

    return RequestFactory().get("/sync")


def test_outside_a_request() -> None:
    ran: list[int] = []
    with pytest.raises(NoActiveExchange):
        after_response(ran.append, 0)
    with override_settings(ASYNC_AFTER={"OUTSIDE_REQUEST": "run"}):
        callback = after_response(ran.append, 1)
        assert callback.state is CallbackState.SUCCEEDED
    assert ran == [1]


async def test_outside_a_request_from_async_code() -> None:
    from async_after import aafter_response

    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return number * 2

    with pytest.raises(NoActiveExchange):
        await aafter_response(double, 1)
    with override_settings(ASYNC_AFTER={"OUTSIDE_REQUEST": "run"}):
        assert (await aafter_response(double, 1)).result() == 2
        assert (await aafter_response(abs, -1)).result() == 1
        assert after_response(double, 2).result() == 4


def test_django_that_is_loaded_but_not_used_does_not_matter() -> None:
    code = (
        "import django.db, django.core.cache\n"
        "from async_after import exchange_scope, after_response\n"
        "with exchange_scope(): after_response(print, 'ran')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("ran\n", "")


async def test_a_limit_that_is_raised_makes_room_for_those_that_wait() -> None:
    go_on = asyncio.Event()
    started: list[int] = []

    async def waits() -> None:
        started.append(1)
        await go_on.wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        after_response(waits)
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def send(message: Any) -> None: ...

    receive: Any = send  # this app never asks
    wrapped = ASGIMiddleware(app, hold=False)
    scope = {"type": "http", "method": "GET", "path": "/"}
    with override_settings(ASYNC_AFTER={"LIMIT": 1}):
        for _ in range(3):
            await wrapped(scope, receive, send)
        async with asyncio.timeout(10):
            while not started:
                await asyncio.sleep(0)
        for _ in range(10):  # the others would start now
            await asyncio.sleep(0)
        assert len(started) == 1
    with override_settings(ASYNC_AFTER={"LIMIT": 4}):
        await wrapped(scope, receive, send)
        async with asyncio.timeout(10):
            while len(started) < 4:
                await asyncio.sleep(0.01)
    go_on.set()
    await get_runner().drain(10)
