"""One request, its response, and the callbacks registered meanwhile: a pure state machine.

It knows neither event loop nor runner. Adapters feed it five events; a runner, seen as its
``Host``, takes the callbacks from it.
"""

from .callback import (
    RUNNING,
    SUCCEEDED,
    Callback,
    CallbackNotRun,
    CallbackState,
    Lane,
    Options,
    Predicate,
    When,
    name_of,
)
from .exchange import (
    Exchange,
    context_of,
    current_callback,
    current_exchange,
    inside,
    running_callback,
)
from .lookup import KEY, NoActiveExchange, key_holder
from .outcome import Completion, Outcome

__all__ = [
    "KEY",
    "RUNNING",
    "SUCCEEDED",
    "Callback",
    "CallbackNotRun",
    "CallbackState",
    "Completion",
    "Exchange",
    "Lane",
    "NoActiveExchange",
    "Options",
    "Outcome",
    "Predicate",
    "When",
    "context_of",
    "current_callback",
    "current_exchange",
    "inside",
    "key_holder",
    "name_of",
    "running_callback",
]
