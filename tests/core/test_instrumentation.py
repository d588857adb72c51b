"""Instruments: who hears of callbacks, and what is entered around them, in each lane."""

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest

from async_after import Callback, CallbackState, Instrument, after_response
from async_after._core.runner import runner as runner_module
from async_after.wsgi import AfterResponseMiddleware
from tests.first_hour import LANES

from .conftest import DEADLINE, MakeRunner, loop_exchange, records, responding, thread_exchange
from .lanes.test_kinds import PLAIN, Register, registrar_of, run

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")
EVENTS = ("registered", "started", "ended")


async def through(
    lane: str, register: Register, make_runner: MakeRunner, instruments: list[object]
) -> Callback[Any]:
    """Register, and run to the end, with these instruments."""
    runner = make_runner(instruments=instruments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, "_default", runner)  # that of scopes
        if lane == "async scope":
            return await run(lane, register, make_runner)
        if lane in PLAIN:
            return await asyncio.to_thread(PLAIN[lane], register, lambda: runner)
    with responding(loop_exchange(runner)):
        callback = register()
    await runner.drain(DEADLINE)
    await runner.aclose()
    return callback


class Around:
    """Enters something around each callback, and keeps what it sees."""

    def __init__(self, *, enter: Any = None, leave: Any = None, answer: object = None) -> None:
        self.enter, self.leave, self.answer = enter, leave, answer
        self.seen: list[object] = []

    def around(self, callback: Callback[Any]) -> "AbstractContextManager[object]":
        self.callback = callback
        return self  # type: ignore[return-value]

    def __enter__(self) -> None:
        self.seen.append(("enter", request_id.get(), self.callback.state.name))
        request_id.set(f"around {request_id.get()}")
        if self.enter is not None:
            raise self.enter

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> object:
        self.seen.append(("exit", request_id.get(), type(error).__name__, self.callback.state.name))
        if self.leave is not None:
            raise self.leave
        return self.answer


def of_lane(lane: str, ending: str, is_async: bool) -> Callable[[], Any]:
    """A callable that ends like that, as it sees what was entered around it."""

    def plain() -> str:
        if ending == "fails":
            raise ValueError(request_id.get())
        return request_id.get()

    async def coroutine() -> str:
        await asyncio.sleep(0)
        return plain()

    def returns_a_coroutine() -> Any:
        return coroutine()

    if lane in ("loop", "background"):
        return coroutine
    return {False: plain, True: returns_a_coroutine}[is_async]


@pytest.mark.parametrize("is_async", [False, True], ids=["call", "coroutine"])
@pytest.mark.parametrize("ending", ["succeeds", "fails"])
@pytest.mark.parametrize("lane", LANES)
async def test_around(lane: str, ending: str, is_async: bool, make_runner: MakeRunner) -> None:
    """Entered once, in the callback's own context, and left when the callback has returned."""
    around = Around(answer=True)

    def register() -> Callback[Any]:
        request_id.set("mine")
        callback: Callback[Any] = registrar_of(lane)(of_lane(lane, ending, is_async))
        request_id.set("not mine")
        return callback

    callback = await through(lane, register, make_runner, [around])
    error = "ValueError" if ending == "fails" else "NoneType"
    assert around.seen == [
        ("enter", "mine", "RUNNING"),
        ("exit", "around mine", error, "RUNNING"),
    ]
    if ending == "fails":
        assert callback.state is CallbackState.FAILED
        assert str(callback.exception()) == "around mine"
    else:
        assert callback.result() == "around mine"
    assert callback._around is None


@pytest.mark.parametrize("ending", ["succeeds", "fails"])
@pytest.mark.parametrize("where", ["hook", "enter", "exit", "no manager"])
@pytest.mark.parametrize("lane", LANES)
async def test_around_that_raises(
    lane: str, where: str, ending: str, make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the callback runs all the same, and what others have entered is left."""

    class Broken:
        def around(self, callback: Callback[Any]) -> Any:
            if where == "hook":
                raise KeyError("mine")
            if where == "no manager":
                return object()
            error = KeyError("mine")
            return Around(enter=error if where == "enter" else None, leave=error).around(callback)

    other = Around()
    ran = of_lane(lane, ending, False)
    callback = await through(
        lane, lambda: registrar_of(lane)(ran), make_runner, [Broken(), other, Broken()]
    )
    assert callback.state.name == {"succeeds": "SUCCEEDED", "fails": "FAILED"}[ending]
    assert [each[0] for each in other.seen if isinstance(each, tuple)] == ["enter", "exit"]
    found = [r for r in records(caplog) if getattr(r, "event", "") == "instrument_failed"]
    name = "Broken"
    assert len(found) == 2
    assert all(f"instrument {name} failed at around" in r.getMessage() for r in found)


@pytest.mark.parametrize("lane", LANES)
async def test_around_never_for_what_does_not_run(lane: str, make_runner: MakeRunner) -> None:
    around = Around()
    registrar, ran = registrar_of(lane), of_lane(lane, "succeeds", False)

    def register() -> Callback[Any]:
        assert registrar(ran).cancel()
        registrar.using(when="error")(ran)
        last: Callback[Any] = registrar.using(when=lambda outcome: False)(ran)
        return last

    callback = await through(lane, register, make_runner, [around])
    assert callback.state is CallbackState.SKIPPED
    assert around.seen == []


async def test_around_a_coroutine_that_is_never_awaited(make_runner: MakeRunner) -> None:
    """Its function had no time left: what was entered is left all the same."""
    around, let_go = Around(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def coroutine() -> None:
        raise AssertionError("not awaited")

    def slow() -> Any:
        asyncio.run_coroutine_threadsafe(let_go.wait(), loop).result(DEADLINE)
        return coroutine()

    runner = make_runner(instruments=[around])
    with responding(loop_exchange(runner)):
        callback = after_response.using(timeout=0.01)(slow)
    await runner.drain(DEADLINE)
    assert callback.state is CallbackState.TIMED_OUT
    let_go.set()
    async with asyncio.timeout(DEADLINE):
        while len(around.seen) < 2:
            await asyncio.sleep(0)


async def test_around_a_coroutine_that_is_cancelled(make_runner: MakeRunner) -> None:
    around = Around()
    runner = make_runner(instruments=[around])
    with responding(loop_exchange(runner)):
        callback = after_response.using(timeout=0.01)(asyncio.Event().wait)
    await runner.drain(DEADLINE)
    assert callback.state is CallbackState.TIMED_OUT
    assert around.seen[1:] == [("exit", "around none", "CancelledError", "RUNNING")]


class Contextual:
    """A hook written with ``contextlib``, as most will be."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    @contextmanager
    def around(self, callback: Callback[Any]) -> Iterator[None]:
        try:
            yield
        except ValueError as error:  # swallows it, as far as it can
            self.seen.append(error)


@pytest.mark.parametrize("lane", LANES)
async def test_around_swallows_nothing(lane: str, make_runner: MakeRunner) -> None:
    hook = Contextual()
    ran = of_lane(lane, "fails", False)
    callback = await through(lane, lambda: registrar_of(lane)(ran), make_runner, [hook])
    assert hook.seen == [callback.exception()]


@pytest.mark.parametrize("event", [*EVENTS, "around"])
@pytest.mark.parametrize("lane", LANES)
async def test_one_hook_is_enough(lane: str, event: str, make_runner: MakeRunner) -> None:
    heard: list[str] = []

    def hook(callback: Callback[Any]) -> AbstractContextManager[object]:
        heard.append(callback.name)
        return nullcontext()

    instrument = type("One", (), {event: staticmethod(hook)})()
    assert isinstance(instrument, Instrument)
    ran = of_lane(lane, "succeeds", False)
    register = lambda: registrar_of(lane).using(name="mine")(ran)  # noqa: E731
    callback = await through(lane, register, make_runner, [instrument])
    assert callback.state is CallbackState.SUCCEEDED
    assert heard == ["mine"]


async def test_empty_hooks_cost_nothing(make_runner: MakeRunner) -> None:
    class Ended(Instrument):
        def ended(self, callback: Callback[Any]) -> None:
            heard.append(callback.name)

    heard: list[str] = []
    runner = make_runner(instruments=[Instrument(), Ended, Ended()])
    hooks = runner.capacity.ledger.hooks
    assert [len(each) for each in hooks] == [0, 0, 2, 0]
    with responding(loop_exchange(runner)):
        after_response.using(name="mine")(int)
    await runner.drain(DEADLINE)
    assert heard == ["mine", "mine"]


class Named:
    """For a dotted path."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def ended(self, callback: Callback[Any]) -> None: ...


AN_INSTRUMENT = Named()


@pytest.mark.parametrize(
    ("given", "is_made"),
    [(Named, True), (f"{__name__}.Named", True), (f"{__name__}.AN_INSTRUMENT", False)],
)
def test_what_an_instrument_may_be(given: object, is_made: bool, make_runner: MakeRunner) -> None:
    before = Named.made
    runner = make_runner(instruments=[given])
    hooks: Any = runner.capacity.ledger.hooks.ended
    [hook] = hooks
    assert Named.made - before == is_made
    assert (hook.__self__ is AN_INSTRUMENT) is not is_made


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("tests.nowhere.Ear", r"'tests.nowhere.Ear' cannot be imported \(ModuleNotFoundError"),
        (f"{__name__}.Nobody", "cannot be imported .AttributeError"),
        (f"{__name__}.DEADLINE", "has none of the hooks"),
        ("", "cannot be imported"),
        (type, "<class 'type'> has none of the hooks"),
        (type("Hookless", (), {"ended": None}), "has none of the hooks"),
    ],
)
def test_what_is_no_instrument(given: object, why: str, make_runner: MakeRunner) -> None:
    with pytest.raises(TypeError, match=f"at least one of the hooks registered.*{why}"):
        make_runner(instruments=[AN_INSTRUMENT, given])


@pytest.mark.parametrize("event", EVENTS)
async def test_a_hook_is_called_in_the_context_of_its_callback(
    event: str, make_runner: MakeRunner
) -> None:
    """... and what it sets there stays there."""
    heard: list[str] = []

    def hook(callback: Callback[Any]) -> None:
        heard.append(request_id.get())
        request_id.set("the hook's")

    runner = make_runner(instruments=[type("One", (), {event: staticmethod(hook)})()])
    with responding(thread_exchange(runner)):
        for each in ("first", "second"):
            request_id.set(each)
            after_response(int)
            assert request_id.get() == each
    await runner.drain(DEADLINE)
    assert heard == ["first", "second"]


async def test_repr_of_a_runner(make_runner: MakeRunner) -> None:
    runner = make_runner(limit=2, max_threads=3)
    assert repr(runner) == (
        "<Runner open_exchanges=0 waiting=0 running=0 overdue=0 slots=0/2 threads=0/3>"
    )
    stop = asyncio.Event()
    for _ in range(3):
        with responding(loop_exchange(runner)):
            after_response(stop.wait)
    while runner.statistics().running < 2:
        await asyncio.sleep(0)
    assert "waiting=1 running=2 overdue=0 slots=2/2" in repr(runner)
    stop.set()
    await runner.aclose()
    assert repr(runner).startswith("<Runner closing ")


def test_an_app_of_its_own(make_runner: MakeRunner, caplog: pytest.LogCaptureFixture) -> None:
    """``around`` is entered for callbacks that an app is given (``callbacks=``), too."""
    caplog.set_level(logging.DEBUG)
    around = Around()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    runner = make_runner(instruments=[around])
    served = AfterResponseMiddleware(app, callbacks=[print], runner=runner, lane="inline")
    body: Any = served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: print)
    body.close()
    assert len(around.seen) == 2
