"""What a callback returns or raises, in each lane: it has an end, and those behind it run."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.utils.functional import SimpleLazyObject

from async_after import Callback, CallbackState, after_response

from ...first_hour import LANES
from ..conftest import MakeRunner
from .test_kinds import registrar_of, run_to_its_end


@dataclass(frozen=True)
class Frozen(Exception):
    """As those of some libraries: it refuses ``__traceback__`` and notes."""

    code: str


class Query:
    """As those of some ORMs: who awaits it runs it."""

    def __await__(self) -> Iterator[Any]:
        raise AssertionError("nothing is to await it")


class Strange(type):
    def __getattr__(cls, name: str) -> Any:
        raise LookupError(name)


class OfStrange(metaclass=Strange):
    pass


def load() -> Any:
    raise RuntimeError("the session is gone")


def generator() -> Iterator[int]:
    yield 1


async def agenerator() -> AsyncIterator[int]:
    yield 1


def future() -> "asyncio.Future[None]":
    loop = asyncio.new_event_loop()
    loop.close()
    return asyncio.Future(loop=loop)


def raises(error: BaseException) -> Callable[[], Any]:
    def function() -> Any:
        raise error

    return function


WAYS = [
    (lane, is_async)
    for lane in LANES
    for is_async in (False, True)
    if is_async is {"threads": False, "loop": True, "background": True}.get(lane, is_async)
]
SUCCEEDED, FAILED = CallbackState.SUCCEEDED, CallbackState.FAILED
ENDS: dict[str, tuple[Callable[[], Any], CallbackState, str]] = {
    "a lazy object": (lambda: SimpleLazyObject(load), SUCCEEDED, ""),
    "an object": (object, SUCCEEDED, ""),
    "a class": (lambda: Query, SUCCEEDED, ""),
    "a generator": (generator, FAILED, "f returned a generator: nothing iterates it"),
    "an async generator": (agenerator, FAILED, "f returned a generator: nothing iterates it"),
    "an awaitable": (Query, FAILED, "f returned a Query: nothing awaits it"),
    "a future": (future, FAILED, "f returned a Future: nothing awaits it"),
    "an instance of a class that raises": (OfStrange, SUCCEEDED, ""),
    "a frozen exception": (raises(Frozen("no")), FAILED, "no"),
}


@pytest.mark.parametrize(("lane", "is_async"), WAYS)
@pytest.mark.parametrize("returned", ENDS)
def test_what_is_returned(
    returned: str, is_async: bool, lane: str, make_runner: MakeRunner
) -> None:
    make, state, message = ENDS[returned]

    async def acall() -> Any:
        return make()

    registrar = registrar_of(lane).using(name="f")
    callbacks: list[Callback[Any]] = []

    def register() -> Callback[Any]:
        callbacks.append(registrar(acall if is_async else lambda: make()))
        callbacks.append(after_response(int))
        return callbacks[0]

    run_to_its_end(lane, register, make_runner)
    assert [each.state for each in callbacks] == [state, SUCCEEDED]
    if state is FAILED:
        assert message in str(callbacks[0].exception())


@pytest.mark.parametrize(("lane", "is_async"), WAYS)
def test_a_predicate_that_raises_a_frozen_exception(
    is_async: bool, lane: str, make_runner: MakeRunner
) -> None:
    async def anything() -> None: ...

    def predicate(outcome: object) -> bool:
        raise Frozen("no")

    def register() -> Callback[Any]:
        registrar = registrar_of(lane).using(when=predicate)
        registered: Callback[Any] = registrar(anything if is_async else int)
        return registered

    callback = run_to_its_end(lane, register, make_runner)
    assert (callback.state, callback.exception()) == (FAILED, Frozen("no"))
