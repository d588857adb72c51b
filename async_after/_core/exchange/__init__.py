"""One request, its response, and the callbacks registered meanwhile: a pure state machine.

It knows neither event loop nor runner. Adapters feed it five events; a runner, seen as its
``Host``, takes the callbacks from it.
"""

from .callback import Callback, current_callback, lending, name_of, running_callback
from .exchange import Exchange
from .lookup import KEY, NoActiveExchange, current_exchange, inside, key_holder
from .options import Lane, Options, When
from .outcome import Completion, Outcome
from .state import RUNNING, SUCCEEDED, CallbackNotRun, CallbackState

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
    "When",
    "current_callback",
    "current_exchange",
    "inside",
    "key_holder",
    "lending",
    "name_of",
    "running_callback",
]
