"""Callables that answer with code of their own, which raises: they are registered and run."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from async_after import Runner, after_response

from ..conftest import MakeRunner, entered, thread_exchange
from ..ways import KINDS_OF_WAYS, run_all


def raises(*args: Any, **kwargs: Any) -> Any:
    raise LookupError("not to be asked")


def seven(*args: Any) -> int:
    return 7


async def aseven(*args: Any) -> int:
    return 7


class Unspeakable:
    __str__ = __repr__ = __format__ = __bool__ = raises


def odd(*, call: Any = seven, meta: type = type, **attributes: Any) -> Any:
    """A callable object of a class with these attributes."""
    return meta("Odd", (), {"__call__": call, "__module__": "here", **attributes})()


def refusing(name: str) -> Any:
    """One that does not tell this of itself."""

    def get(self: Any, wanted: str) -> Any:
        if wanted == name:
            raise LookupError(name)
        return object.__getattribute__(self, wanted)

    return odd(__getattribute__=get)


def function_of(module: Any) -> Callable[[], int]:
    def function() -> int:
        return 7

    function.__module__ = module
    return function


class Meta(type):
    __getattribute__ = raises


class Called(Meta):
    """Calling a class of these makes no instance."""

    __call__ = seven


PLAIN: dict[str, Callable[[], Any]] = {
    "__qualname__": refusing("__qualname__"),
    "__module__": refusing("__module__"),
    "__name__": refusing("__name__"),
    "__class__": refusing("__class__"),
    "__wrapped__": refusing("__wrapped__"),
    "__code__": refusing("__code__"),
    "__getattr__": odd(__getattr__=raises),
    "__getattribute__": odd(__getattribute__=raises),
    "no text": odd(__repr__=raises, __str__=raises, __format__=raises),
    "no hash": odd(__eq__=raises, __hash__=raises),
    "not true": odd(__bool__=raises),
    "all names": odd(__getattr__=lambda self, name: Unspeakable()),
    "its class": odd(meta=Meta),
    "a class": Called("Odd", (), {}),
    "a partial of one": functools.partial(odd(__getattribute__=raises)),
    "a function of no module": function_of(None),
    "a function of an odd module": function_of(Unspeakable()),
}
ASYNC: dict[str, Callable[[], Any]] = {
    "__getattr__": odd(call=aseven, __getattr__=raises),
    "no text": odd(call=aseven, __repr__=raises, __str__=raises, __format__=raises),
}


@pytest.mark.parametrize(("way", "is_async"), KINDS_OF_WAYS)
def test_odd_callables(way: str, is_async: bool, make_runner: MakeRunner) -> None:
    table = ASYNC if is_async else PLAIN
    callbacks = run_all(table, way, None, make_runner)
    assert {name: callback.result() for name, callback in callbacks.items()} == dict.fromkeys(
        table, 7
    )


@pytest.mark.parametrize("kind", PLAIN)
def test_their_names(kind: str, runner: Runner) -> None:
    """Of what does not tell its own, it is that of its class, if that does."""
    with entered(exchange := thread_exchange(runner)):
        name = after_response(PLAIN[kind]).name
    if "function" in kind:
        assert name == "?.function_of.<locals>.function"
    elif kind in ("its class", "a class"):
        assert name in ("?", f"{__name__}.Called")
    else:
        assert name in ("here.Odd", "?.Odd")
        assert exchange.queue.sequential[0].cancel()


def test_one_that_is_refused_is_not_registered(runner: Runner) -> None:
    with entered(thread_exchange(runner)):
        for lane in ("loop", "background"):
            with pytest.raises(TypeError, match=r"cannot run the plain function here\.Odd"):
                after_response.using(lane=lane)(PLAIN["__getattribute__"])
    assert runner.statistics().registered == 0
