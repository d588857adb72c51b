"""Lane "inline" of the WSGI wrapper: all has ended when ``close()`` returns."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import django
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from async_after import Callback, CallbackState, Runner, after_response
from async_after._core.exchange import current_exchange
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import (
    DEADLINE,
    App,
    Call,
    Environ,
    StartResponse,
    drain,
    ended,
    environ_for,
    in_thread,
    joined,
    new_runner,
    wait,
)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.site.settings")
django.setup()  # for ASYNC_AFTER


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


def inline(view: Callable[[], object], runner: Runner) -> AfterResponseMiddleware:
    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        view()
        start_response("200 OK", [])
        return [b"x"]

    checked: App = app
    return AfterResponseMiddleware(checked, runner=runner, lane="inline")


def here() -> threading.Thread:
    return threading.current_thread()


def test_all_has_ended_when_close_returns(runner: Runner) -> None:
    """Nested and concurrent ones, too; plain ones of the chain in the server's very thread."""
    ran: list[tuple[str, threading.Thread]] = []

    async def acallback(name: str) -> None:
        await asyncio.sleep(0.01)
        ran.append((name, here()))

    def callback(name: str) -> None:
        ran.append((name, here()))
        if name == "plain":
            after_response(callback, "nested")
            after_response(acallback, "anested")
            after_response.using(concurrent=True)(acallback, "beside")

    def view() -> None:
        after_response(callback, "plain")
        after_response(acallback, "coroutine")
        after_response.using(concurrent=True)(callback, "concurrent")

    call = Call(inline(view, runner)).begin().pull()
    assert ran == []
    call.close()
    assert runner.statistics().succeeded == 6
    assert runner.statistics().running == runner.statistics().pending == 0
    threads = dict(ran)
    assert threads["plain"] is threads["nested"] is here()
    assert threads["coroutine"] is threads["anested"]
    assert threads["coroutine"].name == "async_after background loop"
    assert threads["concurrent"].name.startswith("async_after worker")
    chain = [name for name, _ in ran if name not in ("concurrent", "beside")]
    assert chain == ["plain", "coroutine", "nested", "anested"]


def test_close_waits_for_what_another_thread_registers_meanwhile(runner: Runner) -> None:
    ran: list[str] = []
    environ = environ_for()

    def first() -> None:
        joined(in_thread(lambda: after_response.using(request=environ)(ran.append, "other")))
        ran.append("first")

    Call(inline(lambda: after_response(first), runner), environ).run()
    assert ran == ["first", "other"]


def test_close_waits_for_what_a_concurrent_one_registers(runner: Runner) -> None:
    """The chain is over then, and begins again: in the server's thread."""
    ran: list[object] = []
    chain_is_over = threading.Event()

    def beside() -> None:
        wait(chain_is_over)
        after_response(lambda: ran.append(here()))

    def view() -> None:
        after_response.using(concurrent=True)(beside)
        after_response(chain_is_over.set)

    Call(inline(view, runner)).run()
    assert ran == [here()]


def test_a_running_coroutine_can_be_cancelled(runner: Runner) -> None:
    callbacks: list[Callback[Any]] = []
    entered = threading.Event()

    async def sleeps() -> None:
        entered.set()
        await asyncio.sleep(DEADLINE)

    def view() -> None:
        callbacks.append(after_response(sleeps))
        callbacks.append(after_response(int))

    server = in_thread(Call(inline(view, runner)).run)
    wait(entered)
    assert callbacks[0].cancel() is False
    joined(server)
    assert [callback.state.name for callback in callbacks] == ["CANCELLED", "SUCCEEDED"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("is_nested", [True, False])
def test_what_a_server_uses_to_stop_leaves_close(
    kind: type[BaseException], is_nested: bool, runner: Runner
) -> None:
    """Promise 5; and promise 2: the others still run, in the runner's threads."""
    error = kind("stop")
    ran: list[object] = []
    callbacks: list[Callback[Any]] = []

    def leaves() -> None:
        raise error

    def callback() -> None:
        ran.append(here())

    async def acallback() -> None:
        ran.append(here())

    def register() -> None:
        callbacks.append(after_response(callback))
        callbacks.append(after_response(leaves))
        callbacks.append(after_response(acallback))
        callbacks.append(after_response(callback))
        callbacks.append(after_response.using(concurrent=True)(callback))

    def view() -> None:
        if is_nested:
            callbacks.append(after_response(register))
        else:
            register()

    call = Call(inline(view, runner)).begin().pull()
    with pytest.raises(kind) as raised:
        call.close()
    assert raised.value is error
    drain(runner)
    ended(*callbacks)
    failed = [callback for callback in callbacks if callback.state is CallbackState.FAILED]
    assert [callback.exception() for callback in failed] == [error]
    statistics = runner.statistics()
    assert (statistics.succeeded, statistics.failed) == (len(callbacks) - 1, 1)
    assert ran.count(here()) == 1
    assert len(ran) == 4
    # The server goes on, and so does the lane.
    Call(inline(lambda: after_response(callback), runner)).run()
    assert ran.count(here()) == 2


def test_several_leave_one_after_another(runner: Runner) -> None:
    """The second one is no longer in the server's thread: a failure like any other."""
    callbacks: list[Callback[Any]] = []

    def leaves() -> None:
        raise SystemExit

    def view() -> None:
        callbacks.extend(after_response(leaves) for _ in range(3))

    with pytest.raises(SystemExit):
        Call(inline(view, runner)).run()
    ended(*callbacks)
    assert {callback.state for callback in callbacks} == {CallbackState.FAILED}


@pytest.mark.parametrize("kind", [LookupError, asyncio.CancelledError, StopIteration])
def test_other_errors_do_not_leave_close(kind: type[BaseException], runner: Runner) -> None:
    callbacks: list[Callback[Any]] = []

    def fails() -> None:
        raise kind

    async def afails() -> None:
        raise LookupError

    def view() -> None:
        callbacks.extend([after_response(fails), after_response(afails), after_response(int)])
        callbacks.append(after_response.using(concurrent=True)(fails))

    Call(inline(view, runner)).run()
    states = [callback.state.name for callback in callbacks]
    assert states == ["FAILED", "FAILED", "SUCCEEDED", "FAILED"]


def test_a_system_exit_on_the_loop_stays_there(runner: Runner) -> None:
    """No signal handler of the server has raised it."""
    callbacks: list[Callback[Any]] = []

    async def leaves() -> None:
        raise SystemExit

    Call(inline(lambda: callbacks.append(after_response(leaves)), runner)).run()
    assert callbacks[0].state is CallbackState.FAILED
    Call(inline(lambda: callbacks.append(after_response(leaves)), runner)).run()
    assert callbacks[1].state is CallbackState.FAILED


def test_the_exchange_around_is_back(runner: Runner) -> None:
    """An in-process request in a view: its callbacks end before its ``close()`` returns."""
    order: list[str] = []

    def inner_view() -> None:
        after_response(order.append, "inner callback")

    inner = inline(inner_view, runner)

    def outer_view() -> None:
        mine = current_exchange.get()
        after_response(order.append, "outer callback")
        Call(inner, environ_for("/inner")).run()
        assert current_exchange.get() is mine
        order.append("outer view")

    Call(inline(outer_view, runner)).run()
    assert order == ["inner callback", "outer view", "outer callback"]


@pytest.mark.parametrize("outer_lane", ["threads", "inline"])
@pytest.mark.parametrize("is_concurrent", [True, False])
def test_a_request_made_in_a_callback(
    is_concurrent: bool, outer_lane: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits for callbacks of its own, and lends them its slot meanwhile."""
    ran: list[str] = []
    with new_runner(limit=1, max_threads=2, wait_timeout=1) as runner:
        inner = inline(
            lambda: after_response.using(concurrent=is_concurrent)(ran.append, "inner"), runner
        )

        def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
            after_response(lambda: Call(inner, environ_for("/inner")).run())
            start_response("200 OK", [])
            return []

        outer = AfterResponseMiddleware(app, runner=runner, lane=outer_lane)
        joined(in_thread(Call(outer).run))
        drain(runner)
    assert ran == ["inner"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_after_the_runner_was_closed(runner: Runner) -> None:
    """A new request is a sign of life, for this lane too."""
    ran: list[object] = []

    async def acallback() -> None:
        ran.append("coroutine")

    def view() -> None:
        after_response(ran.append, "plain")
        after_response(acallback)
        after_response.using(concurrent=True)(ran.append, "beside")

    for count in (3, 6):
        Call(inline(view, runner)).run()
        assert len(ran) == count
        asyncio.run(runner.aclose())


@pytest.mark.parametrize("is_in_time", [True, False])
def test_closing_the_runner_while_one_runs(is_in_time: bool) -> None:
    """Promise 10: it is waited for, and what has not ended in time is DROPPED."""
    entered, go_on = threading.Event(), threading.Event()
    callbacks: list[Callback[Any]] = []

    async def acallback() -> None:
        await asyncio.sleep(0)

    def held() -> None:
        entered.set()
        wait(go_on)

    def view() -> None:
        callbacks.extend([after_response(held), after_response(int), after_response(acallback)])

    timeout = DEADLINE if is_in_time else 0.05
    with new_runner(wait_timeout=timeout, close_timeout=0.05) as runner:
        server = in_thread(Call(inline(view, runner)).run)
        wait(entered)
        closing = in_thread(lambda: asyncio.run(runner.aclose()))
        if not is_in_time:
            joined(closing)
        go_on.set()
        joined(server)
        joined(closing)
        state = CallbackState.SUCCEEDED if is_in_time else CallbackState.DROPPED
        assert [callback.state for callback in callbacks] == [state] * 3


def test_the_lane_of_the_wrapper_comes_before_the_setting(runner: Runner) -> None:
    threads: list[object] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        after_response(lambda: threads.append(here()))
        start_response("200 OK", [])
        return []

    for setting, lane, is_here in (
        ("inline", None, True),
        ("inline", "threads", False),
        ("threads", None, False),
        ("threads", "inline", True),
    ):
        wrapped = AfterResponseMiddleware(app, runner=runner, lane=lane)  # type: ignore[arg-type]
        with override_settings(ASYNC_AFTER={"WSGI_LANE": setting}):
            Call(wrapped).run()
        drain(runner)
        assert (threads.pop() is here()) is is_here, (setting, lane)


def test_the_setting_is_read_at_each_request(runner: Runner) -> None:
    threads: list[object] = []

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        after_response(lambda: threads.append(here()))
        start_response("200 OK", [])
        return []

    wrapped = AfterResponseMiddleware(app, runner=runner)
    for setting in ("inline", "threads", "inline"):
        with override_settings(ASYNC_AFTER={"WSGI_LANE": setting}):
            Call(wrapped).run()
        drain(runner)
        assert (threads.pop() is here()) is (setting == "inline")


@pytest.mark.parametrize("value", ["thread", "", None, 5, ["inline"]])
def test_a_wrong_setting_is_refused_at_start_up(value: object) -> None:
    with (
        override_settings(ASYNC_AFTER={"WSGI_LANE": value}),
        pytest.raises(ImproperlyConfigured, match="WSGI_LANE"),
    ):
        AfterResponseMiddleware(lambda environ, start_response: [])


def test_the_timeout_of_a_plain_function(runner: Runner) -> None:
    """It has the server's thread until it returns; then it is said to have been too slow."""
    callbacks: list[Callback[Any]] = []

    def slow(callback: list[Callback[Any]]) -> None:
        deadline = time.monotonic() + DEADLINE
        while callback[0]._stopping is None and time.monotonic() < deadline:
            time.sleep(0.001)

    def view() -> None:
        callbacks.append(after_response.using(timeout=0.01)(slow, callbacks))
        callbacks.append(after_response(int))

    Call(inline(view, runner)).run()
    states = [callback.state for callback in callbacks]
    assert states == [CallbackState.TIMED_OUT, CallbackState.SUCCEEDED]
