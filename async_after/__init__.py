"""Run code after the HTTP response has been sent.

Promise 13, pure_core: importing this loads no Django. Nor does it load the rest
of the package before that is used: our pytest plugin is imported with it, in
every test run of every project that has async_after.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core.capacity import RunnerFull
    from ._core.delivery import Delivery
    from ._core.exchange import (
        Callback,
        CallbackNotRun,
        CallbackState,
        Completion,
        NoActiveExchange,
        Outcome,
        Statistics,
    )
    from ._core.instrumentation import Instrument
    from ._core.registration import aafter_response, after_response, exchange_scope
    from ._core.runner import Runner, get_runner

__all__ = [
    "Callback",
    "CallbackNotRun",
    "CallbackState",
    "Completion",
    "Delivery",
    "Instrument",
    "NoActiveExchange",
    "Outcome",
    "Runner",
    "RunnerFull",
    "Statistics",
    "aafter_response",
    "after_response",
    "exchange_scope",
    "get_runner",
]

_HOMES = {
    "Callback": "exchange",
    "CallbackNotRun": "exchange",
    "CallbackState": "exchange",
    "Completion": "exchange",
    "Delivery": "delivery",
    "Instrument": "instrumentation",
    "NoActiveExchange": "exchange",
    "Outcome": "exchange",
    "Runner": "runner",
    "RunnerFull": "capacity",
    "Statistics": "exchange",
    "aafter_response": "registration",
    "after_response": "registration",
    "exchange_scope": "registration",
    "get_runner": "runner",
}


def __getattr__(name: str) -> Any:
    """A public name, when it is first asked for (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"._core.{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
