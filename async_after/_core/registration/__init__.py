"""``after_response`` and its options: what a callback is, before it is on an exchange."""

from . import test_hook
from .callables import inspected
from .exchange_scope import exchange_scope
from .registrar import AfterResponseWithOutcome, aafter_response, after_response
from .test_hook import Held, Interceptor

__all__ = [
    "AfterResponseWithOutcome",
    "Held",
    "Interceptor",
    "aafter_response",
    "after_response",
    "exchange_scope",
    "inspected",
    "test_hook",
]
