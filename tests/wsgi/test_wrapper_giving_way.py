"""Lane "threads": callbacks begin 3 ms after ``close()``, so that the server comes first."""

import time
from collections.abc import Iterator

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after.wsgi import AfterResponseMiddleware
from async_after.wsgi.dispatch import _CONTROL_IS_BACK

from .wsgi_client import Call, Environ, StartResponse, drain, new_runner


@pytest.fixture
def runner() -> Iterator[Runner]:
    with new_runner() as runner:
        yield runner


class Watch:
    """An instrument that knows in which order they began."""

    def __init__(self) -> None:
        self.started_ones: list[str] = []

    def registered(self, callback: Callback[object]) -> None: ...

    def started(self, callback: Callback[object]) -> None:
        self.started_ones.append(callback.name)

    def ended(self, callback: Callback[object]) -> None: ...


def test_async_ones_begin_in_order() -> None:
    """Concurrent ones too, though they give way to the server for a moment first."""

    async def nothing() -> None: ...

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        for number in range(8):
            after_response.using(concurrent=True, name=str(number))(nothing)
        start_response("200 OK", [])
        return []

    for _ in range(20):
        watch = Watch()
        with new_runner(instruments=[watch]) as runner:
            Call(AfterResponseMiddleware(app, runner=runner, lane="threads")).run()
            drain(runner)
        assert watch.started_ones == [str(number) for number in range(8)]


def test_one_that_gives_way_is_pending(runner: Runner) -> None:
    """So it can still be cancelled, and has not begun."""
    registered: list[Callback[object]] = []
    ran: list[int] = []

    async def runs() -> None:
        ran.append(1)

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        registered.append(after_response(runs))
        start_response("200 OK", [])
        return []

    moments: list[bool] = []
    for _ in range(20):
        Call(AfterResponseMiddleware(app, runner=runner, lane="threads")).run()
        moments.append(registered[-1].cancel())
        drain(runner)
        is_cancelled = registered[-1].state is CallbackState.CANCELLED
        assert moments[-1] is is_cancelled
    assert len(ran) == moments.count(False)
    assert any(moments)


def test_a_concurrent_one_that_comes_meanwhile_gives_way_too(runner: Runner) -> None:
    """Promise 1: until control is back with the server of an app that has failed, none begins."""
    began: list[float] = []
    environs: list[Environ] = []

    def begins() -> None:
        began.append(time.monotonic())

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        environs.append(environ)
        after_response(begins)
        raise ValueError("this app always fails")

    call = Call(AfterResponseMiddleware(app, runner=runner, lane="threads"))
    before = time.monotonic()
    with pytest.raises(ValueError, match="always fails"):
        call.run()
    after_response.using(request=environs[0], concurrent=True)(begins)
    drain(runner)
    assert len(began) == 2
    assert min(began) - before > 0.9 * _CONTROL_IS_BACK


def test_those_that_give_way_fill_no_runner_that_has_slots() -> None:
    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        after_response.using(concurrent=True)(lambda: None)
        start_response("200 OK", [])
        return []

    with new_runner(limit=10, pending_limit=1, overflow="raise") as runner:
        for _ in range(20):
            Call(AfterResponseMiddleware(app, runner=runner, lane="threads")).run()
            Call(AfterResponseMiddleware(app, runner=runner, lane="threads")).run()
            drain(runner)
        assert runner.statistics().succeeded == 40
