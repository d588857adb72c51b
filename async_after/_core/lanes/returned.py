"""What a callable has returned: a value, what is to be awaited, or what nobody would run."""

from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Literal

from ..exchange import Callback
from ..runtime import is_unstarted


def kind_of(returned: Any) -> "Kind":
    """What has been returned, by its type alone: ``isinstance`` would ask a lazy object for its
    ``__class__``, which loads it."""
    try:
        kind = _kinds.get(type(returned))
    except Exception:  # its metaclass hashes, or compares, with code of its own
        kind = None
    return _kind_of(type(returned)) if kind is None else kind


Kind = Literal["value", "coroutine", "awaitable", "generator"]
_kinds: dict[type, Kind] = {
    **dict.fromkeys((type(None), bool, int, float, str, bytes, list, tuple, dict, set), "value"),
    CoroutineType: "coroutine",
    GeneratorType: "generator",
    AsyncGeneratorType: "generator",
}


def _kind_of(returned: type) -> Kind:
    if _has(returned, "__await__"):
        return "coroutine" if has_steps(returned) else "awaitable"
    # As collections.abc says of Generator and AsyncGenerator: others than Python make some, too.
    is_iterated = (
        _has(returned, "__next__") and has_steps(returned) and _has(returned, "__iter__")
    ) or (_has(returned, "__anext__") and _has(returned, "asend") and _has(returned, "athrow"))
    return "generator" if is_iterated else "value"


def has_steps(kind: type) -> bool:
    """Whether it runs step by step, as coroutines do."""
    return all(_has(kind, name) for name in ("send", "throw", "close"))


def _has(kind: type, name: str) -> bool:
    """Whether its instances have this method. Its metaclass is not asked: it may raise."""
    for each in _mro.__get__(kind):
        attributes = _attributes.__get__(each)
        if name in attributes:
            return attributes[name] is not None
    return False


_mro, _attributes, _name = (vars(type)[each] for each in ("__mro__", "__dict__", "__name__"))


def coroutine_of(returned: Any) -> Any:
    """The coroutine that a loop is to run, of what a coroutine function has returned that is no
    native one. Raises ``StopIteration``, as one that ends at once, where there is none."""
    if has_steps(type(returned)):
        return returned
    if kind_of(returned) == "awaitable":
        return _await(returned)
    raise StopIteration(returned)


async def _await(awaitable: Any) -> Any:
    return await awaitable


def refusal(callback: Callback[Any], result: Any) -> TypeError | None:
    """For what was returned, and nobody would run. A coroutine is closed, so that Python does
    not say that it was never awaited."""
    kind = kind_of(result)
    if kind == "value":
        return None
    if is_unstarted(result):
        result.close()
    nobody = "iterates" if kind == "generator" else "awaits"
    what = kind if kind == "generator" else _name.__get__(type(result))
    return TypeError(f"{callback.name} returned a {what}: nothing {nobody} it")
