"""What may be registered, with which options, and how everything else is refused."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction

from async_after import (
    Callback,
    CallbackState,
    NoActiveExchange,
    Outcome,
    Runner,
    aafter_response,
    after_response,
)
from async_after._core.exchange import KEY, Exchange

from ..conftest import (
    DEADLINE,
    disconnected,
    entered,
    finish,
    loop_exchange,
    records,
    responding,
    thread_exchange,
)


def here(value: str) -> tuple[str, bool]:
    """The value, and whether this is the thread of the event loop."""
    return value, threading.current_thread() is threading.main_thread()


async def coroutine_function(value: str) -> tuple[str, bool]:
    await asyncio.sleep(0)
    return here(value)


def marked(value: str) -> Awaitable[tuple[str, bool]]:
    return coroutine_function(value)


markcoroutinefunction(marked)


class Methods:
    async def coroutine(self, value: str) -> tuple[str, bool]:
        return await coroutine_function(value)

    def plain(self, value: str) -> tuple[str, bool]:
        return here(value)

    @staticmethod
    async def static(value: str) -> tuple[str, bool]:
        return await coroutine_function(value)

    @classmethod
    async def of_class(cls, value: str) -> tuple[str, bool]:
        return await coroutine_function(value)


class AsyncCallable:
    async def __call__(self, value: str) -> tuple[str, bool]:
        return await coroutine_function(value)


class PlainCallable:
    def __call__(self, value: str) -> tuple[str, bool]:
        return here(value)


methods = Methods()
ON_LOOP: dict[str, Callable[..., Any]] = {
    "coroutine function": coroutine_function,
    "lambda": lambda value: coroutine_function(value),
    "marked": marked,
    "method": methods.coroutine,
    "static method": Methods.static,
    "class method": Methods.of_class,
    "callable object": AsyncCallable(),
    "async __call__": AsyncCallable().__call__,
}
IN_THREAD: dict[str, Callable[..., Any]] = {
    "function": here,
    "lambda": lambda value: here(value),
    "method": methods.plain,
    "callable object": PlainCallable(),
    "plain __call__": PlainCallable().__call__,
}


@pytest.mark.parametrize("wrapped", ["bare", "partial", "partial twice"])
@pytest.mark.parametrize(
    ("function", "is_on_loop"),
    [pytest.param(f, True, id=f"loop-{n}") for n, f in ON_LOOP.items()]
    + [pytest.param(f, False, id=f"thread-{n}") for n, f in IN_THREAD.items()],
)
async def test_kinds(
    runner: Runner, function: Callable[..., Any], is_on_loop: bool, wrapped: str
) -> None:
    """Each has its result, not a coroutine; coroutines run on the loop, all else in threads."""
    if wrapped == "partial":
        function = functools.partial(function)
    elif wrapped == "partial twice":
        function = functools.partial(functools.partial(function))
    with responding(loop_exchange(runner)):
        callback = after_response(function, value="x")
    assert await callback.wait(DEADLINE) == ("x", is_on_loop)


async def test_builtins_and_classes(runner: Runner) -> None:
    with responding(loop_exchange(runner)):
        builtin, kind = after_response(len, "four"), after_response(complex, 1, imag=2)
        awaitable = after_response(Awaited)
    assert await builtin.wait(DEADLINE) == 4
    assert await kind.wait(DEADLINE) == 1 + 2j
    with pytest.raises(TypeError, match="returned a Awaited: nothing awaits it"):
        await awaitable.wait(DEADLINE)  # only coroutines are awaited, and silence would be worse
    assert (builtin.name, kind.name) == ("builtins.len", "builtins.complex")


class Awaited:
    def __await__(self) -> Iterator[None]:
        raise AssertionError("awaited")


async def test_names(runner: Runner) -> None:
    twice = functools.partial(functools.partial(here))
    functions: list[Callable[..., Any]] = [here, twice, AsyncCallable(), methods.plain]
    with entered(loop_exchange(runner)):
        names = [after_response(function).name for function in functions]
        assert names == [
            f"{__name__}.here",
            f"{__name__}.here",
            f"{__name__}.AsyncCallable",
            f"{__name__}.Methods.plain",
        ]
        assert after_response.using(name="own")(int).name == "own"


# Bad input: a clear error, and nothing is registered.


async def async_generator_function() -> AsyncIterator[int]:
    yield 1


def generator_function() -> Iterator[int]:
    yield 1


class GeneratorCallable:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize("registrar", [after_response, aafter_response])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "needs a callable, not NoneType"),
        (lambda: "text", "needs a callable, not str"),
        (
            lambda: coroutine_function("x"),
            r"the coroutine object coroutine_function\(...\). Pass the function and its arguments:"
            r" after_response\(coroutine_function, ...\)",
        ),
        (lambda: async_generator_function, "async generator function .*async_generator_function"),
        (lambda: generator_function, "the generator function .*generator_function"),
        (lambda: functools.partial(generator_function), "the generator function"),
        (GeneratorCallable, "the generator function .*GeneratorCallable"),
    ],
)
async def test_not_a_callable(
    runner: Runner, registrar: Any, make: Callable[[], Any], message: str
) -> None:
    exchange = loop_exchange(runner)
    with entered(exchange), pytest.raises(TypeError, match=message):
        await registrar(make())
    assert exchange._queue is None
    assert not exchange.end()


@pytest.mark.parametrize("registrar", [after_response, aafter_response])
@pytest.mark.parametrize(
    ("option", "value", "kind", "message"),
    [
        ("timeout", 0, ValueError, r"timeout=0\): must be a number of seconds above 0"),
        ("timeout", -1.5, ValueError, "timeout=-1.5"),
        ("timeout", True, ValueError, "timeout=True"),
        ("timeout", float("inf"), ValueError, "timeout=inf"),
        ("timeout", float("nan"), ValueError, "timeout=nan"),
        ("timeout", "5", TypeError, "timeout='5'"),
        ("when", "sometimes", ValueError, "'always', 'success', 'disconnect', 'error'"),
        ("when", None, TypeError, "when=None.: must be one of .*, or a predicate"),
        ("when", coroutine_function, TypeError, "a plain predicate"),
        ("when", AsyncCallable(), TypeError, "a plain predicate"),
        ("when", functools.partial(coroutine_function), TypeError, "a plain predicate"),
        ("takes_outcome", 1, TypeError, "takes_outcome=1"),
        ("delivery_timeout", 0, ValueError, "delivery_timeout=0"),
        ("on_commit", "", TypeError, "True, False or the alias of a database"),
        ("on_commit", None, TypeError, "True, False or the alias of a database"),
        ("concurrent", None, TypeError, "concurrent=None"),
        ("key", [], TypeError, "list is not hashable"),
        ("name", 5, TypeError, "name=5"),
        ("lane", "process", ValueError, "'loop', 'threads'"),
        ("lane", 1, TypeError, "lane=1"),
        ("request", object(), TypeError, "must be a Django or Starlette request, .*, not object"),
        ("request", {}, NoActiveExchange, "request=dict"),
        ("retries", 3, TypeError, "no option 'retries'. The options are: concurrent, .*, when"),
    ],
)
def test_wrong_options(
    runner: Runner,
    registrar: Any,
    option: str,
    value: object,
    kind: type[Exception],
    message: str,
) -> None:
    exchange = thread_exchange(runner)
    with entered(exchange), pytest.raises(kind, match=message):
        registrar.using(**{option: value})(here)
    assert exchange._queue is None


def test_all_options_are_listed() -> None:
    unknown: Any = {"bad": 1, "worse": 2}
    with pytest.raises(TypeError) as caught:
        after_response.using(**unknown)
    assert str(caught.value) == (
        "using() has no option 'bad', 'worse'. The options are: concurrent, delivery_timeout, key,"
        " lane, name, on_commit, request, takes_outcome, timeout, when."
    )


@pytest.mark.parametrize(("lane", "function"), [("loop", here), ("threads", coroutine_function)])
def test_wrong_lane(runner: Runner, lane: Any, function: Callable[..., Any]) -> None:
    exchange = thread_exchange(runner)
    with entered(exchange), pytest.raises(TypeError, match=f'lane="{lane}" cannot run'):
        after_response.using(lane=lane)(function, "x")
    assert exchange._queue is None


async def test_right_lane(runner: Runner) -> None:
    with responding(loop_exchange(runner)):
        callbacks = [
            after_response.using(lane="loop")(coroutine_function, "x"),
            after_response.using(lane="threads")(here, "x"),
        ]
    assert [await callback.wait(DEADLINE) for callback in callbacks] == [("x", True), ("x", False)]


@pytest.mark.parametrize("registrar", [after_response, aafter_response])
async def test_no_exchange(registrar: Any) -> None:
    with pytest.raises(NoActiveExchange) as caught:
        await registrar(here, "s3cret")
    text = str(caught.value)
    assert text.startswith(f"after_response({__name__}.here): no exchange is active here")
    for advice in (
        "async_after.asgi.AfterResponseMiddleware",
        "async_after.django.AfterResponseMiddleware",
        "using(request=request)",
        "with exchange_scope():",
        "WebSocket",
    ):
        assert advice in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("argument", "value", "kind"),
    [
        ("limit", 0, ValueError),
        ("limit", "5", TypeError),
        ("limit", True, TypeError),
        ("max_threads", 0, ValueError),
        ("max_threads", 1.5, ValueError),
        ("timeout", 0, ValueError),
        ("timeout", "5", TypeError),
        ("wait_timeout", -1, ValueError),
        ("wait_timeout", None, TypeError),
        ("close_timeout", float("inf"), ValueError),
        ("instruments", [object()], TypeError),
        ("instruments", "text", TypeError),
        ("instruments", 5, TypeError),
    ],
)
def test_wrong_runner(argument: str, value: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=f"{argument}="):
        Runner(**{argument: value})
    with pytest.raises(TypeError):
        Runner(bad=1)  # type: ignore[call-arg]


# Options that work.


def end_as(exchange: Exchange, how: str) -> None:
    match how:
        case "disconnected":
            disconnected(exchange)
        case "failed":
            finish(exchange, error=ValueError())
        case "sent, then raised":
            exchange.start(200, ())
            exchange.complete()
            finish(exchange, error=ValueError())
        case "incomplete":
            exchange.start(200, ())
            assert exchange.end()
            exchange.host.dispatch(exchange)
        case status:
            finish(exchange, int(status))


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("200", "success"),
        ("304", "success"),
        ("399", "success"),
        ("400", "error"),
        ("500", "error"),
        ("failed", "error"),
        ("incomplete", "error"),
        ("sent, then raised", "error"),
        ("disconnected", "disconnect"),
    ],
)
@pytest.mark.parametrize("concurrent", [False, True])
async def test_when_partitions_the_outcomes(
    runner: Runner, how: str, name: str, concurrent: bool
) -> None:
    exchange = loop_exchange(runner)
    registrar = after_response.using(concurrent=concurrent)
    with entered(exchange):
        callbacks = {
            "always": registrar(int),
            "success": registrar.using(when="success")(int),
            "disconnect": registrar.using(when="disconnect")(int),
            "error": registrar.using(when="error")(int),
        }
    end_as(exchange, how)
    await runner.drain(DEADLINE)
    ran = {n for n, callback in callbacks.items() if callback.state is CallbackState.SUCCEEDED}
    assert ran == {"always", name}
    others = {callback.state for n, callback in callbacks.items() if n not in ran}
    assert others == {CallbackState.SKIPPED}


@pytest.mark.parametrize("function", [here, coroutine_function])
async def test_predicate(runner: Runner, function: Callable[[str], Any]) -> None:
    seen: list[Outcome] = []

    def is_created(outcome: Outcome) -> object:
        seen.append(outcome)
        return outcome.status == 201

    callbacks = []
    for status in (200, 201):
        with responding(loop_exchange(runner), status):
            callbacks.append(after_response.using(when=is_created)(function, "x"))
    await runner.drain(DEADLINE)
    assert [callback.state for callback in callbacks] == [
        CallbackState.SKIPPED,
        CallbackState.SUCCEEDED,
    ]
    assert sorted(outcome.status or 0 for outcome in seen) == [200, 201]


@pytest.mark.parametrize("function", [here, coroutine_function])
async def test_predicate_that_raises(
    runner: Runner, caplog: pytest.LogCaptureFixture, function: Callable[[str], Any]
) -> None:
    error = ValueError("of the predicate")

    def raises(outcome: Outcome) -> bool:
        raise error

    with responding(loop_exchange(runner)):
        callback = after_response.using(when=raises, name="n")(function, "x")
        following = after_response(int)
    assert await following.wait(DEADLINE) == 0
    await runner.drain(DEADLINE)
    assert callback.state is CallbackState.FAILED
    assert callback.exception() is error
    [record] = records(caplog)
    assert record.getMessage() == "callback n of GET /x (200) failed"


async def test_takes_outcome(runner: Runner) -> None:
    def plain(outcome: Outcome, first: int, *, second: int) -> tuple[Outcome, int, int]:
        return outcome, first, second

    async def coroutine(outcome: Outcome, first: int, *, second: int) -> tuple[Outcome, int, int]:
        return outcome, first, second

    with responding(loop_exchange(runner)) as exchange:
        callbacks = [
            after_response.using(takes_outcome=True)(plain, 1, second=2),
            after_response.using(takes_outcome=True)(coroutine, 1, second=2),
            await aafter_response.using(takes_outcome=True)(plain, 1, second=2),
        ]
    expected = (exchange.sealed, 1, 2)
    assert [await callback.wait(DEADLINE) for callback in callbacks] == [expected] * 3


async def test_aafter_response(runner: Runner) -> None:
    with responding(loop_exchange(runner)):
        callback = await aafter_response(coroutine_function, "x")
        named = await aafter_response.using(name="n", timeout=5)(here, value="y")
    assert await callback.wait(DEADLINE) == ("x", True)
    assert await named.wait(DEADLINE) == ("y", False)
    assert named.name == "n"


async def test_decorator(runner: Runner) -> None:
    with responding(loop_exchange(runner)):

        @after_response
        def decorated() -> int:
            return 42

    assert isinstance(decorated, Callback)
    assert await decorated.wait(DEADLINE) == 42


def test_using_chains() -> None:
    """What a later ``using`` does not name stays; the one it was called on does not change."""
    first = after_response.using(timeout=5, name="first")
    second = first.using(name="second", concurrent=True)
    assert (first._options.name, first._options.concurrent) == ("first", False)
    options = second._options
    assert (options.timeout, options.name, options.concurrent) == (5, "second", True)
    assert after_response._options.timeout is None


class Request:
    """As Django's and Starlette's requests: they have their scope or environ."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@pytest.mark.parametrize("kind", ["scope", "object with scope", "object with environ"])
def test_request(runner: Runner, kind: str) -> None:
    exchange, other = thread_exchange(runner), thread_exchange(runner)
    keys = {KEY: exchange}
    request = {
        "scope": keys,
        "object with scope": Request(scope=keys),
        "object with environ": Request(environ=keys),
    }[kind]
    registrar = after_response.using(request=request)
    with entered(other):
        assert registrar(int)._owner is exchange
        assert registrar.using(name="n")(int)._owner is exchange
        assert registrar.using(request=None)(int)._owner is other
    assert registrar(int)._owner is exchange
