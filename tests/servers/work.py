"""The callbacks of the served apps. What a request wants stands in its query string.

``n``: how many callbacks; ``kind``: ``async``, ``sync``, ``both`` or ``all`` in turn (``all``:
in each lane, in the chain and beside it; ``plain``: the plain functions of these);
``delay``: seconds that each suspends; ``gated``: each waits until the test opens the gate
of the request, so that it decides what comes first (see ``gates``).
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from async_after import Outcome, aafter_response, after_response

from .events import record
from .gates import Gate


@dataclass(frozen=True)
class Wanted:
    ident: str
    count: int
    kind: str
    delay: float
    gated: bool

    @classmethod
    def by(cls, ident: str, query: Mapping[str, Any]) -> "Wanted":
        return cls(
            ident,
            int(query.get("n", "1")),
            str(query.get("kind", "async")),
            float(query.get("delay", "0")),
            "gated" in query,
        )

    def works(self) -> list["Work"]:
        kinds = _KINDS[self.kind]
        return [kinds[number % len(kinds)] for number in range(self.count)]

    def register(self) -> None:
        after_response.using(takes_outcome=True)(see, self.ident)
        for number, (function, options) in enumerate(self.works()):
            after_response.using(**options)(function, self, number)

    async def aregister(self) -> None:
        await aafter_response.using(takes_outcome=True)(see, self.ident)
        for number, (function, options) in enumerate(self.works()):
            await aafter_response.using(**options)(function, self, number)


async def suspend(wanted: Wanted, number: int) -> None:
    """An async callback that really suspends: one that never does hides
    cancellations."""
    record("start", wanted.ident, n=number)
    try:
        await asyncio.sleep(wanted.delay)
        if wanted.gated:
            await Gate(wanted.ident).wait()
    except asyncio.CancelledError:
        record("callback cancelled", wanted.ident, n=number)
        raise
    record("end", wanted.ident, n=number)


def block(wanted: Wanted, number: int) -> None:
    record("start", wanted.ident, n=number)
    time.sleep(wanted.delay)
    if wanted.gated:
        Gate(wanted.ident).wait_in_thread()
    record("end", wanted.ident, n=number)


Work = tuple[Any, dict[str, Any]]
"""A function, and the options it is registered with."""
_KINDS: dict[str, list[Work]] = {
    "plain": [(block, {}), (block, {"concurrent": True})],
    "async": [(suspend, {})],
    "sync": [(block, {})],
    "both": [(suspend, {}), (block, {})],
    "all": [
        (function, options | more)
        for options in ({}, {"concurrent": True})
        for function, more in ((suspend, {}), (block, {}), (suspend, {"lane": "background"}))
    ],
}


def fields(outcome: Outcome) -> dict[str, object]:
    return {
        "completion": outcome.completion.name,
        "status": outcome.status,
        "body_bytes": outcome.body_bytes,
        "error": None if outcome.error is None else type(outcome.error).__name__,
        "is_success": outcome.is_success,
    }


async def see(outcome: Outcome, ident: str) -> None:
    record("outcome", ident, **fields(outcome))
    await asyncio.sleep(0)
