"""Run code after the HTTP response has been sent.

Promise 13, pure_core: importing this loads no Django.
"""

from .books import Statistics
from .callback import Callback, CallbackNotRun, CallbackState
from .exchange import NoActiveExchange
from .instrumentation import Instrument
from .outcome import Completion, Outcome
from .registrar import aafter_response, after_response
from .room import RunnerFull
from .runner import Runner, get_runner
from .scope import exchange_scope

__all__ = [
    "Callback",
    "CallbackNotRun",
    "CallbackState",
    "Completion",
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
