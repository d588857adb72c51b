"""``after_response`` and its options: what a callback is, before it is on an exchange."""

from .callables import inspected
from .interception import Held, Interceptor
from .registrar import AfterResponseWithOutcome, aafter_response, after_response
from .scope import exchange_scope

__all__ = [
    "AfterResponseWithOutcome",
    "Held",
    "Interceptor",
    "aafter_response",
    "after_response",
    "exchange_scope",
    "inspected",
]
