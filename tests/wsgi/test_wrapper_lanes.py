"""The lanes behind the WSGI wrapper: what both have, and ``"threads"``."""

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import django
import pytest
from django.utils import timezone, translation

from async_after import (
    Callback,
    CallbackNotRun,
    CallbackState,
    Completion,
    Outcome,
    Runner,
    after_response,
)
from async_after.wsgi import AfterResponseMiddleware

from .wsgi_client import (
    DEADLINE,
    App,
    Call,
    Environ,
    StartResponse,
    drain,
    ended,
    in_thread,
    joined,
    new_runner,
    wait,
)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.site.settings")
django.setup()  # for languages and time zones

LANES = ["threads", "inline"]
variable = contextvars.ContextVar("variable", default="default")


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


def registering(*functions: Callable[[], object], **options: Any) -> App:
    """An app that registers them; ``environ["test.registered"]`` has the callbacks."""

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["test.registered"] = [
            after_response.using(**options)(function) for function in functions
        ]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    return app


def served(app: App, runner: Runner, lane: Any) -> list[Callback[Any]]:
    """One request; the callbacks that it has registered, ended."""
    call = Call(AfterResponseMiddleware(app, runner=runner, lane=lane)).run()
    callbacks: list[Callback[Any]] = call.environ["test.registered"]
    ended(*callbacks)
    drain(runner)
    return callbacks


# What both lanes promise.


@pytest.mark.parametrize("lane", LANES)
def test_in_order(lane: Any, runner: Runner) -> None:
    """Promise 6, whatever their kind: each begins when the last one has ended."""
    order: list[object] = []

    def plain(name: object) -> Callable[[], None]:
        return lambda: order.append(name)

    def coroutine(name: object) -> Callable[[], Any]:
        async def function() -> None:
            await asyncio.sleep(0)
            order.append(name)

        return function

    def more() -> None:
        order.append("more")
        after_response(plain("nested"))
        after_response(coroutine("nested async"))

    async def amore() -> None:
        await asyncio.sleep(0)
        order.append("amore")
        after_response(plain("anested"))

    served(registering(plain(0), coroutine(1), more, coroutine(2), plain(3), amore), runner, lane)
    assert order == [0, 1, "more", 2, 3, "amore", "nested", "nested async", "anested"]
    assert runner.statistics().succeeded == 9


@pytest.mark.parametrize("lane", LANES)
def test_context_kept(lane: Any, runner: Runner) -> None:
    """Promise 8: language, time zone and context variables of the registration."""
    seen: list[tuple[object, ...]] = []

    def look() -> None:
        seen.append(
            (translation.get_language(), timezone.get_current_timezone_name(), variable.get())
        )

    async def alook() -> None:
        await asyncio.sleep(0)
        look()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        with translation.override("fr"), timezone.override("Asia/Tokyo"):
            token = variable.set("mine")
            after_response(look)
            after_response(alook)
            after_response.using(concurrent=True)(look)
            after_response.using(concurrent=True)(alook)
            variable.reset(token)
        start_response("200 OK", [])
        return []

    before = translation.get_language()
    Call(AfterResponseMiddleware(app, runner=runner, lane=lane)).run()
    drain(runner)
    assert seen == [("fr", "Asia/Tokyo", "mine")] * 4
    assert (translation.get_language(), variable.get()) == (before, "default")


@pytest.mark.parametrize("lane", LANES)
def test_what_a_callback_changes_is_its_own(lane: Any, runner: Runner) -> None:
    seen: list[object] = []

    def change() -> None:
        variable.set("changed")
        translation.activate("de")

    def look() -> None:
        seen.append((variable.get(), translation.get_language()))

    expected = variable.get(), translation.get_language()
    served(registering(change, look, change, look), runner, lane)
    look()
    assert seen == [expected] * 3


@pytest.mark.parametrize("lane", LANES)
def test_isolated(lane: Any, runner: Runner, caplog: pytest.LogCaptureFixture) -> None:
    """Promise 5: a failure stops neither the others nor the server."""
    ran: list[str] = []

    def fails() -> None:
        raise LookupError("plain")

    async def afails() -> None:
        raise LookupError("coroutine")

    callbacks = served(registering(fails, afails, lambda: ran.append("last")), runner, lane)
    assert [callback.state.name for callback in callbacks] == ["FAILED", "FAILED", "SUCCEEDED"]
    assert ran == ["last"]
    errors = [record for record in caplog.records if record.name == "async_after"]
    assert len(errors) == 2
    for record in errors:
        assert "GET /page (200)" in record.getMessage()
        assert record.exc_info is not None


@pytest.mark.parametrize("lane", LANES)
def test_options(lane: Any, runner: Runner) -> None:
    """key, when, a predicate that fails, cancel(), a coroutine that a plain function returns."""
    ran: list[object] = []

    async def acalled(name: str) -> str:
        await asyncio.sleep(0)
        ran.append(name)
        return name

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        register = after_response.using
        environ["test.registered"] = [
            register(key="k")(ran.append, "replaced"),
            register(key="k")(ran.append, "kept"),
            register(when="error")(ran.append, "skipped"),
            register(when=lambda outcome: outcome.status == 201)(ran.append, "created"),
            register(when=lambda outcome: outcome.nothing)(ran.append, "broken"),  # type: ignore[attr-defined]
            after_response(ran.append, "cancelled"),
            after_response(lambda: acalled("returned")),
        ]
        environ["test.registered"][5].cancel()
        start_response("201 Created", [])
        return [b""]

    callbacks = served(app, runner, lane)
    states = [callback.state.name for callback in callbacks]
    assert states == [
        "CANCELLED", "SUCCEEDED", "SKIPPED", "SUCCEEDED", "FAILED", "CANCELLED", "SUCCEEDED",
    ]  # fmt: skip
    assert ran == ["kept", "created", "returned"]
    assert callbacks[-1].result() == "returned"


@pytest.mark.parametrize("lane", LANES)
def test_the_outcome_is_sealed_before_the_first_one(lane: Any, runner: Runner) -> None:
    seen: list[Outcome] = []
    note: Any = lambda outcome: seen.append(outcome)  # noqa: E731
    app = registering(note, note, takes_outcome=True)
    callbacks = served(app, runner, lane)
    assert seen[0] is seen[1] is callbacks[0].outcome
    assert seen[0].completion is Completion.SENT


@pytest.mark.parametrize("lane", LANES)
def test_concurrent_ones_wait_for_each_other(lane: Any, runner: Runner) -> None:
    """They really run side by side, plain functions and coroutine functions."""
    barrier = threading.Barrier(2)
    events: list[asyncio.Event] = []

    def plain() -> None:
        barrier.wait(DEADLINE)

    async def waits() -> None:
        events.append(asyncio.Event())
        async with asyncio.timeout(DEADLINE):
            await events[0].wait()

    async def opens() -> None:
        async with asyncio.timeout(DEADLINE):
            while not events:
                await asyncio.sleep(0.001)
        events[0].set()

    callbacks = served(registering(plain, plain, waits, opens, concurrent=True), runner, lane)
    assert {callback.state for callback in callbacks} == {CallbackState.SUCCEEDED}


@pytest.mark.parametrize("lane", LANES)
def test_a_concurrent_one_does_not_hold_up_the_chain(lane: Any, runner: Runner) -> None:
    go_on = threading.Event()

    def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ["test.registered"] = [
            after_response.using(concurrent=True)(go_on.wait, DEADLINE),
            after_response(go_on.set),
        ]
        start_response("200 OK", [])
        return []

    callbacks = served(app, runner, lane)
    assert callbacks[0].result() is True


@pytest.mark.parametrize("lane", LANES)
def test_the_loop_lives_across_requests(lane: Any, runner: Runner) -> None:
    """So that a lock, a client or a pool made there can be kept."""
    loops: set[asyncio.AbstractEventLoop] = set()
    locks: list[asyncio.Lock] = []
    threads: set[str] = set()

    async def uses() -> None:
        if not locks:
            locks.append(asyncio.Lock())
        # Contended, a lock of another loop would refuse.
        async with locks[0]:
            loops.add(asyncio.get_running_loop())
            threads.add(threading.current_thread().name)
            await asyncio.sleep(0.001)

    for _ in range(3):
        served(registering(uses, uses, concurrent=True), runner, lane)
        served(registering(uses, uses), runner, lane)
    assert len(loops) == 1
    assert threads == {"async_after background loop"}
    assert runner.statistics().succeeded == 12


@pytest.mark.parametrize("lane", LANES)
def test_timeouts(lane: Any, runner: Runner) -> None:
    """Of coroutine functions; the others go on."""
    ran: list[str] = []

    async def sleeps() -> None:
        await asyncio.sleep(DEADLINE)

    callbacks = served(
        registering(sleeps, lambda: ran.append("next"), sleeps, timeout=0.05), runner, lane
    )
    assert [callback.state.name for callback in callbacks] == [
        "TIMED_OUT",
        "SUCCEEDED",
        "TIMED_OUT",
    ]
    assert ran == ["next"]


@pytest.mark.parametrize("lane", LANES)
def test_many_requests_at_once(lane: Any) -> None:
    """Promise 2: the sum is kept."""
    ran: list[int] = []

    async def coroutine() -> None:
        await asyncio.sleep(0)
        ran.append(1)

    def fails() -> None:
        ran.append(1)
        raise LookupError

    with new_runner(limit=3, max_threads=2) as runner:
        app = registering(lambda: ran.append(1), coroutine, fails, coroutine)
        wrapped = AfterResponseMiddleware(app, runner=runner, lane=lane)

        def serve() -> None:
            for _ in range(10):
                Call(wrapped).run()

        joined(*[in_thread(serve) for _ in range(6)])
        drain(runner)
        statistics = runner.statistics()
        assert (statistics.succeeded, statistics.failed) == (180, 60)
        assert (statistics.pending, statistics.running) == (0, 0)
    assert len(ran) == 240


# Lane "threads".


def test_close_returns_while_a_callback_is_held(runner: Runner) -> None:
    entered, go_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def held() -> None:
        threads.append(threading.current_thread())
        entered.set()
        wait(go_on)

    wrapped = AfterResponseMiddleware(registering(held, held), runner=runner)
    calls = [Call(wrapped).run() for _ in range(2)]  # the next request is served, too
    wait(entered)
    callbacks = [callback for call in calls for callback in call.environ["test.registered"]]
    assert not any(callback.done() for callback in callbacks)
    go_on.set()
    ended(*callbacks)
    assert threading.current_thread() not in threads
    assert all(thread.name.startswith("async_after worker") for thread in threads)


def test_close_returns_while_a_coroutine_is_held(runner: Runner) -> None:
    go_on = threading.Event()

    async def held() -> None:
        assert await asyncio.to_thread(go_on.wait, DEADLINE)

    call = Call(AfterResponseMiddleware(registering(held), runner=runner, lane="threads")).run()
    [callback] = call.environ["test.registered"]
    assert not callback.done()
    go_on.set()
    ended(callback)
    assert callback.state is CallbackState.SUCCEEDED


def test_a_plain_functions_timeout() -> None:
    """A thread cannot be stopped: those behind go on without it."""
    go_on, after = threading.Event(), threading.Event()
    with new_runner() as runner:
        wrapped = AfterResponseMiddleware(
            registering(lambda: go_on.wait(DEADLINE), after.set, timeout=0.05), runner=runner
        )
        call = Call(wrapped).run()
        wait(after)
        assert call.environ["test.registered"][0].state is CallbackState.TIMED_OUT
        go_on.set()


def test_the_limit() -> None:
    """Promise 9: so many at once, the others wait and are counted."""
    running: list[int] = []
    most: list[int] = []
    lock, go_on = threading.Lock(), threading.Event()

    def counts() -> None:
        with lock:
            running.append(1)
            most.append(len(running))
        wait(go_on)
        with lock:
            running.pop()

    with new_runner(limit=2) as runner:
        wrapped = AfterResponseMiddleware(registering(counts), runner=runner)
        for _ in range(6):
            Call(wrapped).run()
        statistics = runner.statistics()
        assert statistics.pending + statistics.running == 6
        go_on.set()
        drain(runner)
    assert max(most) <= 2
    assert len(most) == 6


@pytest.mark.parametrize("overflow", ["drop", "raise", "wait"])
def test_overflow(overflow: Any, caplog: pytest.LogCaptureFixture) -> None:
    go_on, entered = threading.Event(), threading.Event()

    def held() -> None:
        entered.set()
        wait(go_on)

    with new_runner(limit=1, pending_limit=1, overflow=overflow) as runner:
        wrapped = AfterResponseMiddleware(registering(held), runner=runner)
        first = Call(wrapped).run()
        wait(entered)
        second = Call(wrapped).run()
        deadline = time.monotonic() + DEADLINE
        while overflow == "raise" and not runner.statistics().waiting:  # it gives way first
            assert time.monotonic() < deadline
            time.sleep(0.001)
        third = Call(AfterResponseMiddleware(registering(held), runner=runner))
        raised: list[BaseException] = []
        try:
            third.run()
        except Exception as error:
            raised.append(error)
        names = [type(error).__name__ for error in raised]
        assert names == (["RunnerFull"] if overflow == "raise" else [])
        if overflow == "drop":
            # When it has given way to the server; before that nobody looks for room.
            [newest] = third.environ["test.registered"]
            with pytest.raises(CallbackNotRun, match="full"):
                asyncio.run(newest.wait(DEADLINE))
        go_on.set()
        drain(runner)
        states = [
            callback.state.name
            for call in (first, second, third)
            for callback in call.environ.get("test.registered", [])
        ]
        last = {"drop": ["DROPPED"], "raise": [], "wait": ["SUCCEEDED"]}[overflow]
        assert states == ["SUCCEEDED", "SUCCEEDED", *last]


def test_a_system_exit_stays_in_the_runners_threads(runner: Runner) -> None:
    """Promise 5: there it is a failure like any other, for both kinds."""

    def leaves() -> None:
        raise SystemExit(3)

    async def aleaves() -> None:
        raise SystemExit(3)

    ran: list[int] = []
    callbacks = served(registering(leaves, aleaves, lambda: ran.append(1)), runner, "threads")
    assert [callback.state.name for callback in callbacks] == ["FAILED", "FAILED", "SUCCEEDED"]
