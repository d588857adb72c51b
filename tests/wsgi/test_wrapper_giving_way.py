"""Lane "threads": callbacks begin 3 ms after ``close()``, so that the server comes first."""

from collections.abc import Iterator

import pytest

from async_after import Callback, CallbackState, Runner, after_response
from async_after.wsgi import AfterResponseMiddleware

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
