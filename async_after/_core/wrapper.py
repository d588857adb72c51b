"""What the ASGI and the WSGI wrapper have in common: who runs the callbacks, and
those that run after every response."""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from . import conf
from .exchange import Exchange, Options, Outcome
from .registration import AfterResponseWithOutcome, inspected
from .runner import Runner, get_runner

App = TypeVar("App")

EVERY_RESPONSE = AfterResponseWithOutcome(Options(takes_outcome=True))
"""Registers the ``callbacks`` of a wrapper."""


class Wrapper(Generic[App]):
    """Raises ``TypeError`` for what cannot be meant, and Django's
    ``ImproperlyConfigured`` for a wrong ``ASYNC_AFTER``. ``kind``: "an ASGI", say."""

    def __init__(
        self,
        app: App,
        kind: str,
        runner: Runner | None,
        callbacks: Iterable[Callable[[Outcome], object]],
    ) -> None:
        if not callable(app):
            raise TypeError(f"app must be {kind} application, not {type(app).__name__}")
        if runner is not None and not isinstance(runner, Runner):
            raise TypeError(f"runner must be a Runner, not {type(runner).__name__}")
        conf.check()
        self.app = app
        self._runner = runner
        self._callbacks = tuple(callbacks)
        for callback in self._callbacks:
            inspected(callback, None)  # raises for what cannot be called

    def _register_on(self, exchange: Exchange) -> None:
        """What runs after every response."""
        for callback in self._callbacks:
            EVERY_RESPONSE.on(exchange, callback)

    @property
    def runner(self) -> Runner:
        if self._runner is None:
            self._runner = get_runner()
        return self._runner
