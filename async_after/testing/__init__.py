"""For tests of code that registers callbacks.

Each tool is a block, ``with`` or ``async with``, or decorates a test. It sees
what any thread of the process registers meanwhile, so that it works with every
test client and with servers in threads. Of blocks inside each other the
innermost counts. Importing this loads no Django.
"""

from .capture import CapturedCallback, capture_after_response, suppress_after_response
from .errors import raise_callback_errors
from .testcase import AfterResponseTestMixin

__all__ = [
    "AfterResponseTestMixin",
    "CapturedCallback",
    "capture_after_response",
    "raise_callback_errors",
    "suppress_after_response",
]
