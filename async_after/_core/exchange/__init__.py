"""One request, its response, and the callbacks registered meanwhile: a pure state machine.

It knows neither event loop nor runner. Adapters feed it five events; a runner, seen as its
``Host``, takes the callbacks from it.
"""

from .callback import Callback
from .exchange import Exchange
from .ledger import Hooks, Ledger, Statistics
from .lookup import KEY, NoActiveExchange, current_exchange, inside, key_holder
from .options import Lane, Options, When, name_of
from .outcome import Completion, Outcome
from .state import CallbackNotRun, CallbackState
from .waiting import current_callback, lending

__all__ = [
    "KEY",
    "Callback",
    "CallbackNotRun",
    "CallbackState",
    "Completion",
    "Exchange",
    "Hooks",
    "Lane",
    "Ledger",
    "NoActiveExchange",
    "Options",
    "Outcome",
    "Statistics",
    "When",
    "current_callback",
    "current_exchange",
    "inside",
    "key_holder",
    "lending",
    "name_of",
]
