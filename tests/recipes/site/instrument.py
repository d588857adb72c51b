"""Tells the tests how each callback has ended."""

from typing import Any

from async_after import Callback
from tests.servers.events import record


class Ends:
    def registered(self, callback: Callback[Any]) -> None: ...

    def started(self, callback: Callback[Any]) -> None: ...

    def ended(self, callback: Callback[Any]) -> None:
        outcome = callback.outcome
        # One that was rolled back has ended before the response.
        path = callback.values()["path"] if outcome is None else outcome.path
        record("callback", str(path), name=callback.name, state=callback.state.name)
