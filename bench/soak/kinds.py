"""The kinds of callbacks of ``soak``: each registers one or more, and says how they must end.

A view registers them by name.
"""

import random
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from async_after import after_response

from .ledger import ledger
from .work import (
    EXCEPTIONS,
    at_once,
    block,
    cancel_itself,
    cancel_itself_and_return,
    cancel_other,
    cancel_task,
    fail_async,
    fail_sync,
    insert_async,
    insert_sync,
    last_async,
    last_sync,
    never_async,
    never_sync,
    recurse_async,
    recurse_sync,
    register_more_async,
    register_more_sync,
    returns_coroutine,
    see,
    show_task,
    sleep_async,
    sleep_long,
    sleep_overdue,
    sleep_stubbornly,
    sleep_sync,
    wait_and_be_cancelled,
    wait_in_vain,
)

BACKGROUND_SHARE = 0.25
SUCCEEDED_OR_CANCELLED = ("succeeded", "cancelled")
"""The exchange may have ended before: then it starts at once, and is not pending any more."""
SHORT = 0.05
both = (sleep_async, sleep_sync)


def _one(
    kind: str,
    *functions: Callable[..., Any],
    args: tuple[Any, ...] = (),
    expected: tuple[str, ...] = ("succeeded",),
    is_called: bool = True,
    **options: Any,
) -> Callable[[], Any]:
    """Registers one of the functions, coroutine functions now and then in the background lane."""
    here = after_response.using(**options)
    background = after_response.using(**{**options, "lane": "background"})
    states = frozenset(expected)

    def register() -> Any:
        function = random.choice(functions)
        is_background = iscoroutinefunction(function) and random.random() < BACKGROUND_SHARE
        return ledger.add(
            kind,
            function,
            *args,
            using=background if is_background else here,
            expected=states,
            is_called=is_called,
        )

    return register


async def aregister() -> None:
    """As ``_one``, with ``aafter_response``."""
    await ledger.aadd("aafter_response", random.choice(both))


def _in_turn(*registers: Callable[[], Any]) -> Callable[[], None]:
    def register() -> None:
        for each in registers:
            each()

    return register


def _choices() -> None:
    whens: tuple[Any, ...] = ("success", "disconnect", "error")
    usings = [after_response.using(when=when) for when in whens]
    ledger.add_choice("when=, one of three", random.choice((at_once, sleep_sync)), usings)


def _task_cancelled() -> None:
    tasks: list[Any] = []
    _one("its task is cancelled", show_task, args=(tasks,), expected=("dropped",))()
    _one("cancels a task", cancel_task, args=(tasks,), concurrent=True)()


def _keyed() -> None:
    key = object()  # a request may ask for this kind twice
    _one("key=, replaced", *both, key=key, expected=SUCCEEDED_OR_CANCELLED)()
    _one("key=, the last", *both, key=key)()


def _waited_for() -> None:
    other = _one("waited for", sleep_async, concurrent=True)()
    _one("waits", wait_in_vain, wait_and_be_cancelled, args=(other,), concurrent=True)()


def _cancelled() -> None:
    _one("cancelled at once", sleep_async, sleep_sync, expected=SUCCEEDED_OR_CANCELLED)().cancel()


def _cancelled_later() -> None:
    other = _one("cancelled later", sleep_long, expected=("cancelled",), concurrent=True)()
    _one("cancels another", cancel_other, args=(other,), concurrent=True)()


KINDS: dict[str, Callable[[], Any]] = {
    "async": _one("async", sleep_async),
    "sync": _one("sync", sleep_sync),
    "at-once": _one("async, never suspends", at_once),
    "blocks": _one("blocks, in the background", block, lane="background"),
    "coroutine": _one("returns a coroutine", returns_coroutine),
    "outcome": _one("takes_outcome=", see, takes_outcome=True),
    "concurrent": _one("concurrent=", *both, concurrent=True),
    **{
        f"raise-{name}": _one(
            f"raises {name}", fail_async, fail_sync, args=(name,), expected=("failed",)
        )
        for name in EXCEPTIONS
    },
    "cancels-itself": _one("cancels its task", cancel_itself, expected=("failed",)),
    "task-cancelled": _task_cancelled,
    "cancels-itself-returns": _one("cancels its task, returns", cancel_itself_and_return),
    "times-out-async": _one(
        "times out, async", sleep_long, sleep_stubbornly, expected=("timed out",), timeout=SHORT
    ),
    "times-out-sync": _one(
        "times out, sync", sleep_overdue, expected=("timed out",), timeout=SHORT
    ),
    "recurses": _one("RecursionError", recurse_sync, recurse_async, expected=("failed",)),
    "more": _one("registers more", register_more_async, register_more_sync, args=(3,)),
    "many": _one("registers more", register_more_async, register_more_sync, args=(60,)),
    "key": _keyed,
    "choice": _choices,
    "predicate-no": _one("predicate: no", *both, when=lambda _: False, expected=("skipped",)),
    "predicate-raises": _one(
        "predicate raises", *both, when=lambda _: 1 / 0, expected=("failed",), is_called=False
    ),
    "waits": _waited_for,
    "cancelled": _cancelled,
    "cancelled-later": _cancelled_later,
    "database": _one("database", insert_sync, insert_async),
    "aafter": aregister,
    "late": _one("registered late", *both),
    # For the end: the first two must complete, the others cannot.
    "last-async": _one("1 s at SIGTERM", last_async),
    "last-sync": _one("1 s at SIGTERM", last_sync, concurrent=True),
    "never": _in_turn(
        _one("never ends", never_async, concurrent=True, expected=("dropped",)),
        _one("never ends", never_sync, concurrent=True, expected=("dropped",)),
    ),
}
