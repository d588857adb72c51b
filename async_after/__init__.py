"""Run code after the HTTP response has been sent.

Promise 13, pure_core: importing this loads no Django. Nor does it load the rest
of the package before that is used: our pytest plugin is imported with it, in
every test run of every project that has async_after.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .books import Statistics
    from .callback import Callback, CallbackNotRun, CallbackState
    from .default import get_runner
    from .delivery import Delivery
    from .finding import NoActiveExchange
    from .instrumentation import Instrument
    from .outcome import Completion, Outcome
    from .registrar import aafter_response, after_response
    from .room import RunnerFull
    from .runner import Runner
    from .scope import exchange_scope

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
    "Callback": "callback",
    "CallbackNotRun": "callback",
    "CallbackState": "callback",
    "Completion": "outcome",
    "Delivery": "delivery",
    "Instrument": "instrumentation",
    "NoActiveExchange": "finding",
    "Outcome": "outcome",
    "Runner": "runner",
    "RunnerFull": "room",
    "Statistics": "books",
    "aafter_response": "registrar",
    "after_response": "registrar",
    "exchange_scope": "scope",
    "get_runner": "default",
}


def __getattr__(name: str) -> Any:
    """A public name, when it is first asked for (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
