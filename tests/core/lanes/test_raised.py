"""What a callback, or its predicate, raises, whichever way it is run: it fails with that, is
logged by its name, and those behind it run."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from async_after import Callback, after_response, exchange_scope
from async_after.asgi import AfterResponseMiddleware
from async_after.testing import capture_after_response, raise_callback_errors
from async_after.wsgi import AfterResponseMiddleware as WsgiMiddleware

from ..conftest import DEADLINE, MakeRunner, loop_exchange, responding, thread_exchange
from ..full import app, nothing, request
from ..ways import KINDS_OF_WAYS, check_at_rest, run_all


@dataclass(frozen=True)
class Frozen(Exception):
    """As those of some libraries: it takes neither ``__traceback__`` nor notes."""

    code: str = "no"


@dataclass(frozen=True)
class FrozenBase(BaseException):
    code: str = "no"


def refuses(*args: Any, **kwargs: Any) -> Any:
    raise LookupError("refused")


def odd(*bases: type[BaseException], **attributes: Any) -> Callable[[], BaseException]:
    """Makes an exception of a class with these attributes."""
    return type("Odd", bases or (Exception,), attributes)


def refusing(name: str, *bases: type[BaseException]) -> Callable[[], BaseException]:
    """Makes one that lets nobody read or write this attribute."""
    return odd(*bases, **{name: property(refuses, refuses)})


ERRORS: dict[str, Callable[[], BaseException]] = {
    "a frozen dataclass": Frozen,
    "__traceback__": refusing("__traceback__"),
    "__cause__": refusing("__cause__"),
    "__context__": refusing("__context__"),
    "__notes__": refusing("__notes__"),
    "__suppress_context__": refusing("__suppress_context__"),
    "__class__": refusing("__class__"),
    "add_note and with_traceback": odd(add_note=refuses, with_traceback=refuses),
    "__setattr__": odd(__setattr__=refuses),
    "__getattr__": odd(__getattr__=refuses),
    "__getattribute__": odd(__getattribute__=refuses),
    "__str__ and __repr__": odd(__str__=refuses, __repr__=refuses, __format__=refuses),
    "__eq__ and __hash__": odd(__eq__=refuses, __hash__=refuses),
    "no hash": odd(__eq__=refuses, __hash__=None),
    "__bool__": odd(__bool__=refuses),
    "__len__": odd(__len__=lambda self: 0),
    "__reduce__": odd(__reduce__=refuses, __reduce_ex__=refuses),
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "CancelledError": asyncio.CancelledError,
    "one like it": odd(asyncio.CancelledError, __class__=property(refuses)),
    "InvalidStateError": asyncio.InvalidStateError,
    "TimeoutError": TimeoutError,
    "a group": lambda: ExceptionGroup("several", [Frozen(), ValueError()]),
}
"""What they refuse, or what they are."""
ENDING: dict[str, Callable[[], BaseException]] = {
    "SystemExit": SystemExit,
    "SystemExit without code": refusing("code", SystemExit),
    "GeneratorExit": GeneratorExit,
    "BaseException": BaseException,
    "frozen, and no Exception": FrozenBase,
    "__class__ of no Exception": refusing("__class__", BaseException),
    "a group of them": lambda: BaseExceptionGroup("several", [SystemExit(), GeneratorExit()]),
}
"""These a WSGI server's own thread passes on: some end it that way."""


def table_of(way: str, is_async: bool) -> dict[str, Callable[[], BaseException]]:
    passes_on = way == "inline under WSGI" and not is_async
    return ERRORS if passes_on else {**ERRORS, **ENDING}


def raising(make: Callable[[], BaseException], raised: list[BaseException]) -> Callable[..., Any]:
    def fails(*args: Any) -> Any:
        raised.append(make())
        raise raised[-1]

    return fails


def check_failed(callback: Callback[Any], raised: list[BaseException]) -> None:
    assert callback.state.name == "FAILED", callback
    error = callback.exception()
    if type(raised[0]) is StopIteration and error is not raised[0]:
        assert type(error) is RuntimeError, "as PEP 479 has it, in coroutines"
    else:
        assert error is raised[0]


def named(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The callbacks that the log says have failed."""
    records: list[Any] = [record for record in caplog.records if hasattr(record, "event")]
    assert "internal_error" not in {record.event for record in records}
    return sorted(record.callback for record in records if record.event == "callback_failed")


@pytest.fixture(autouse=True)
def handlers_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some of these errors cannot be formatted: that is said elsewhere, and not by us."""
    monkeypatch.setattr(logging.Handler, "handleError", lambda *args: None)
    monkeypatch.setattr("_pytest.logging.LogCaptureHandler.handleError", lambda *args: None)


@pytest.mark.parametrize(("way", "is_async"), KINDS_OF_WAYS)
def test_what_they_raise(
    way: str, is_async: bool, make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of(way, is_async)
    raised: dict[str, list[BaseException]] = {name: [] for name in table}
    functions = {name: raising(make, raised[name]) for name, make in table.items()}
    callbacks = run_all(functions, way, is_async, make_runner)
    for name, callback in callbacks.items():
        check_failed(callback, raised[name])
    assert named(caplog) == sorted(table)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("way", "is_async"), KINDS_OF_WAYS)
@pytest.mark.parametrize("name", [*ERRORS, *ENDING])
def test_each_alone(way: str, is_async: bool, name: str, make_runner: MakeRunner) -> None:
    if name not in table_of(way, is_async):
        return
    raised: list[BaseException] = []
    functions = {name: raising({**ERRORS, **ENDING}[name], raised)}
    check_failed(run_all(functions, way, is_async, make_runner)[name], raised)


@pytest.mark.parametrize("name", ENDING)
def test_a_servers_own_thread_passes_it_on(
    name: str, make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """It has failed all the same, and the runner's threads go on behind it."""
    runner = make_runner()
    raised: list[BaseException] = []
    callbacks: list[Callback[Any]] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        callbacks.append(after_response.using(name="fails")(raising(ENDING[name], raised)))
        callbacks.append(after_response(int))
        start_response("200 OK", [])
        return []

    served: Any = WsgiMiddleware(application, runner=runner, lane="inline")
    body = served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: print)
    assert caught(body.close) is raised[0]
    asyncio.run(runner.drain(DEADLINE))
    check_at_rest(runner)
    assert [each.state.name for each in callbacks] == ["FAILED", "SUCCEEDED"]
    assert named(caplog) == ["fails"]


# Predicates.


class NotTrue:
    def __bool__(self) -> bool:
        raise LookupError("neither true nor false")


@pytest.mark.parametrize(("way", "is_async"), KINDS_OF_WAYS)
def test_what_predicates_raise(
    way: str, is_async: bool, make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is called then."""
    table = table_of(way, is_async)
    raised: dict[str, list[BaseException]] = {name: [] for name in table}
    called: list[int] = []

    def options(name: str) -> dict[str, Any]:
        return {"when": raising(table[name], raised[name])}

    functions = {name: lambda: called.append(1) for name in table}
    callbacks = run_all(functions, way, is_async, make_runner, options)
    for name, callback in callbacks.items():
        check_failed(callback, raised[name])
    assert called == []
    assert named(caplog) == sorted(table)


@pytest.mark.parametrize(("way", "is_async"), KINDS_OF_WAYS)
def test_what_predicates_return(way: str, is_async: bool, make_runner: MakeRunner) -> None:
    answers: dict[str, tuple[Any, str]] = {
        "not true": (NotTrue(), "FAILED"),
        "no": ((), "SKIPPED"),
        "yes": (object(), "SUCCEEDED"),
        "a coroutine function": (nothing, "SUCCEEDED"),
    }

    def options(name: str) -> dict[str, Any]:
        return {"when": lambda outcome: answers[name][0]}

    functions = {name: lambda: None for name in answers}
    callbacks = run_all(functions, way, is_async, make_runner, options)
    states = {name: callback.state.name for name, callback in callbacks.items()}
    assert states == {name: state for name, (_, state) in answers.items()}


# What passes our blocks and wrappers is what was raised.


def caught(block: Callable[[], Any]) -> BaseException:
    try:
        block()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


async def acaught(block: Awaitable[Any]) -> BaseException:
    try:
        await block
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize("tool", [capture_after_response, raise_callback_errors])
def test_what_the_testing_tools_raise(tool: Any, make_runner: MakeRunner) -> None:
    runner = make_runner()
    arguments = {"execute": True} if tool is capture_after_response else {}
    raised: list[BaseException] = []

    def plain() -> None:
        with tool(**arguments), responding(thread_exchange(runner)):
            after_response(fails)

    async def coroutine() -> None:
        async with tool(**arguments):
            with responding(loop_exchange(runner)):
                after_response(fails)

    for make in {**ERRORS, **ENDING}.values():
        fails = raising(make, raised)
        assert caught(plain) is raised[-1]
        if make is not StopIteration:  # PEP 479
            assert asyncio.run(acaught(coroutine())) is raised[-1]


def registers(
    raised: list[BaseException], make: Callable[[], BaseException]
) -> tuple[Callback[Any], Callable[..., Any]]:
    """A callback that tells what error its response has ended with, and what ends it so."""
    takes = after_response.using(takes_outcome=True)
    return takes(lambda outcome: outcome.error), raising(make, raised)


def test_what_passes_a_scope() -> None:
    raised: list[BaseException] = []
    callbacks: list[Callback[Any]] = []

    def block(make: Callable[[], BaseException]) -> None:
        with exchange_scope():
            callback, fails = registers(raised, make)
            callbacks.append(callback)
            fails()

    for make in ERRORS.values():
        assert caught(partial(block, make)) is raised[-1]
        assert callbacks[-1].result() is raised[-1]


@pytest.mark.parametrize("wrappers", [1, 2])
async def test_what_passes_the_asgi_wrapper(wrappers: int, make_runner: MakeRunner) -> None:
    raised: list[BaseException] = []
    callbacks: list[Callback[Any]] = []
    runner = make_runner()
    wrapped: Any = app
    for _ in range(wrappers):
        wrapped = AfterResponseMiddleware(wrapped, runner=runner)

    async def view() -> None:
        callback, fails = registers(raised, make)
        callbacks.append(callback)
        fails()

    for make in ERRORS.values():
        if make is not StopIteration:
            assert await acaught(request(wrapped, view)) is raised[-1]
    await runner.drain(DEADLINE)
    assert [id(callback.result()) for callback in callbacks] == [id(error) for error in raised]


@pytest.mark.parametrize("where", ["call", "body", "close"])
@pytest.mark.parametrize("wrappers", [1, 2])
def test_what_passes_the_wsgi_wrapper(wrappers: int, where: str, make_runner: MakeRunner) -> None:
    raised: list[BaseException] = []
    callbacks: list[Callback[Any]] = []
    runner = make_runner()

    class Body:
        def __init__(self, fails: Callable[..., Any]) -> None:
            self._fails = fails

        def __iter__(self) -> Any:
            yield self._fails() if where == "body" else b"body"

        def close(self) -> None:
            if where == "close":
                self._fails()

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        callback, fails = registers(raised, make)
        callbacks.append(callback)
        start_response("200 OK", [])
        return fails() if where == "call" else Body(fails)

    wrapped: Any = application
    for _ in range(wrappers):
        wrapped = WsgiMiddleware(wrapped, runner=runner)

    def serve() -> None:
        body = wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: print)
        try:
            b"".join(body)
        finally:
            body.close()

    for make in ERRORS.values():
        if make is not StopIteration or where == "call":
            assert caught(serve) is raised[-1]
    asyncio.run(runner.drain(DEADLINE))
    check_at_rest(runner)
    assert [id(callback.result()) for callback in callbacks] == [id(error) for error in raised]
