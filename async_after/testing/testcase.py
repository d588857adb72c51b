"""The testing tools as methods, for Django's test cases and those of unittest."""

import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import errors
from .capture import capture_after_response, suppress_after_response
from .errors import raise_callback_errors

if TYPE_CHECKING:
    _TestCase = unittest.TestCase
else:
    _TestCase = object


class AfterResponseTestMixin(_TestCase):
    """For Django's test cases, and those of unittest: it stands before them,
    ``class OrderTests(AfterResponseTestMixin, TestCase)``.

    ``raise_callback_errors = True`` in the class puts ``raiseCallbackErrors()``
    around each of its test methods.
    """

    raise_callback_errors: bool = False

    @classmethod
    def captureAfterResponse(cls, *, execute: bool = False) -> capture_after_response:  # noqa: N802
        """``capture_after_response``, as Django's ``captureOnCommitCallbacks``."""
        return capture_after_response(execute)

    @classmethod
    def suppressAfterResponse(cls) -> suppress_after_response:  # noqa: N802
        """``suppress_after_response``."""
        return suppress_after_response()

    @classmethod
    def raiseCallbackErrors(cls, *, timeout: float = 5.0) -> errors.raise_callback_errors:  # noqa: N802
        """``raise_callback_errors``; it replaces the one around the test method."""
        return raise_callback_errors(timeout=timeout)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self._raising():
            return super().__call__(*args, **kwargs)

    def debug(self) -> None:
        with self._raising():
            super().debug()

    @contextmanager
    def _raising(self) -> Iterator[None]:
        """Meanwhile the test method is inside the tool, also on the loop of a coroutine."""
        if not self.raise_callback_errors:
            yield
            return
        name = self._testMethodName
        before = vars(self).get(name)
        # As Django itself does with its async_to_sync; what pickles a test leaves it out.
        setattr(self, name, raise_callback_errors()(getattr(self, name)))
        try:
            yield
        finally:
            if before is None:
                delattr(self, name)
            else:
                setattr(self, name, before)
