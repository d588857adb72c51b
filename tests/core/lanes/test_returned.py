"""What a callback returns, whichever way it is run: it has an end, and those behind it run."""

import asyncio
import gc
import types
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
from asgiref.sync import markcoroutinefunction
from django.utils.functional import SimpleLazyObject

from async_after import after_response

from ..conftest import DEADLINE, MakeRunner, loop_exchange, responding
from ..ways import KINDS_OF_WAYS, run_all


class Query:
    """As those of some ORMs: who awaits it runs it."""

    def __await__(self) -> Iterator[Any]:
        raise AssertionError("nothing is to await it")


def raises(*args: Any, **kwargs: Any) -> Any:
    raise LookupError("the session is gone")


def of_class(metaclass: type = type, /, *bases: type, **attributes: Any) -> Callable[[], Any]:
    """Makes an instance of a class with these attributes."""
    return lambda: metaclass("Odd", bases, attributes)()


def of_meta(**attributes: Any) -> Callable[[], Any]:
    """Makes an instance of a class whose metaclass has these attributes."""
    return of_class(type("Meta", (type,), attributes))


def generator() -> Iterator[int]:
    yield 1


async def agenerator() -> AsyncIterator[int]:
    yield 1


@types.coroutine
def old_coroutine() -> Iterator[None]:
    yield


async def coroutine() -> int:
    await asyncio.sleep(0)
    return 7


def future() -> "asyncio.Future[None]":
    loop = asyncio.new_event_loop()
    loop.close()
    return asyncio.Future(loop=loop)


SUCCEEDED = "SUCCEEDED"
ODD: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "an object": object,
    "a class": lambda: Query,
    "an exception": lambda: ValueError("no failure"),
    "a StopIteration": lambda: StopIteration(1),
    "a tuple": lambda: (1, 2),
    "a lazy object": lambda: SimpleLazyObject(raises),
    "__class__ raises": of_class(__class__=property(raises)),
    "__class__ lies": of_class(__class__=property(lambda self: types.CoroutineType)),
    "__bool__ raises": of_class(__bool__=raises, __len__=raises),
    "__eq__ and __hash__ raise": of_class(__eq__=raises, __hash__=raises),
    "it cannot be hashed": of_class(__eq__=lambda self, other: True, __hash__=None),
    "__getattr__ raises": of_class(__getattr__=raises),
    "__getattribute__ raises": of_class(__getattribute__=raises),
    "__repr__ and __str__ raise": of_class(__repr__=raises, __str__=raises),
    "__await__ is None": of_class(type, Query, __await__=None),
    "its class has no hash": of_meta(__hash__=raises),
    "its class compares": of_meta(__eq__=raises),
    "its class is asked in vain": of_meta(__getattribute__=raises, __getattr__=raises),
    "its class checks instances": of_meta(__instancecheck__=raises, __subclasscheck__=raises),
    "its class is not true": of_meta(__bool__=raises),
    "it has a method send": of_class(send=raises),
}
"""Each is a result as any other."""
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a generator": (generator, "a generator: nothing iterates it"),
    "an async generator": (agenerator, "a generator: nothing iterates it"),
    "a generator for await": (old_coroutine, "a generator: nothing iterates it"),
    "a generator of another kind": (
        of_class(**dict.fromkeys(("send", "throw", "close", "__iter__", "__next__"), raises)),
        "a generator: nothing iterates it",
    ),
    "an async generator of another kind": (
        of_class(**dict.fromkeys(("asend", "athrow", "aclose", "__aiter__", "__anext__"), raises)),
        "a generator: nothing iterates it",
    ),
    "an awaitable": (Query, "a Query: nothing awaits it"),
    "an awaitable of an odd class": (
        of_class(type("Meta", (type,), {"__hash__": raises}), Query),
        "a Odd: nothing awaits it",
    ),
    "an awaitable that is not true": (
        of_class(type, Query, __bool__=raises),
        "a Odd: nothing awaits it",
    ),
    "a future": (future, "a Future: nothing awaits it"),
}
"""Nothing would run them: that is a failure."""


def made(table: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Those of a table, each as a function of its own."""

    def function(row: Any) -> Callable[[], Any]:
        make = row[0] if isinstance(row, tuple) else row
        return lambda: make()

    return {name: function(row) for name, row in table.items()}


@pytest.mark.parametrize(("way", "is_async"), KINDS_OF_WAYS)
def test_odd_results(way: str, is_async: bool, make_runner: MakeRunner) -> None:
    callbacks = run_all(made(ODD), way, is_async, make_runner)
    assert {name: each.state.name for name, each in callbacks.items()} == dict.fromkeys(
        ODD, SUCCEEDED
    )
    assert callbacks["a tuple"].result() == (1, 2)
    assert type(callbacks["__bool__ raises"].result()).__name__ == "Odd"


@pytest.mark.parametrize(("way", "is_async"), KINDS_OF_WAYS)
def test_what_nothing_would_run(
    way: str, is_async: bool, make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = run_all(made(REFUSED), way, is_async, make_runner)
    for name, callback in callbacks.items():
        error = callback.exception()
        assert type(error) is TypeError, callback
        assert str(error) == f"{name} returned {REFUSED[name][1]}"
        assert f"callback {name} of " in caplog.text


@pytest.mark.exhaustive
@pytest.mark.parametrize(("way", "is_async"), KINDS_OF_WAYS)
@pytest.mark.parametrize("name", [*ODD, *REFUSED])
def test_each_alone(way: str, is_async: bool, name: str, make_runner: MakeRunner) -> None:
    one = {name: made({**ODD, **REFUSED})[name]}
    callbacks = run_all(one, way, is_async, make_runner)
    assert (callbacks[name].state.name == SUCCEEDED) is (name in ODD)


# A coroutine: of a plain function it is awaited, of an async def it is one too many.

Nested = Coroutine[Any, Any, Any]


def returns_a_coroutine() -> Nested:
    return coroutine()


async def returns_one_too_many() -> Nested:
    return coroutine()


def returns_one_that_returns_one() -> Nested:
    return returns_one_too_many()


async def returns_the_next() -> Any:
    return anext(agenerator())


def marked() -> Nested:
    return returns_one_too_many()


class Called:
    async def __call__(self) -> Nested:
        return coroutine()


markcoroutinefunction(marked)
TOO_MANY: dict[str, tuple[Callable[[], Any], str]] = {
    "an async def": (returns_one_too_many, "coroutine"),
    "an object with an async __call__": (Called(), "coroutine"),
    "a plain function, by a coroutine": (returns_one_that_returns_one, "coroutine"),
    "a marked function": (marked, "coroutine"),
    "an async def, of an async generator": (returns_the_next, "async_generator_asend"),
}


@pytest.mark.parametrize(("way", "is_async"), KINDS_OF_WAYS)
def test_a_coroutine_too_many(way: str, is_async: bool, make_runner: MakeRunner) -> None:
    """It is refused, and closed: Python does not say that it was never awaited."""
    rows = {n: row for n, row in TOO_MANY.items() if n.startswith("a plain") is not is_async}
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        functions = {name: function for name, (function, _) in rows.items()}
        callbacks = run_all(functions, way, None, make_runner)
        errors = {name: callback.exception() for name, callback in callbacks.items()}
        del callbacks
        gc.collect()
    for name, error in errors.items():
        assert type(error) is TypeError
        assert str(error) == f"{name} returned a {TOO_MANY[name][1]}: nothing awaits it"
    assert [w for w in warned if issubclass(w.category, RuntimeWarning)] == []


@pytest.mark.parametrize("way", [way for way, is_async in KINDS_OF_WAYS if not is_async])
def test_a_coroutine_of_a_plain_function(way: str, make_runner: MakeRunner) -> None:
    callbacks = run_all({"f": returns_a_coroutine}, way, None, make_runner)
    assert callbacks["f"].result() == 7


async def test_a_coroutine_that_somebody_else_runs_is_not_closed(make_runner: MakeRunner) -> None:
    """A task's own, say: who has begun it goes on with it."""
    ended: list[int] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(0.05)
        finally:
            ended.append(asyncio.current_task() is task)

    task = asyncio.ensure_future(waits())
    await asyncio.sleep(0)
    runner = make_runner()

    async def returns_it() -> Any:
        return task.get_coro()

    with responding(loop_exchange(runner)):
        callback = after_response(returns_it)
    await runner.drain(DEADLINE)
    assert callback.state.name == "FAILED"
    await task
    assert ended == [True]
