"""What a request of the delivery tests wants; it stands in its query string."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from async_after import Callback, CallbackNotRun, Outcome, after_response

from ..events import record


@dataclass(frozen=True)
class Wanted:
    sizes: tuple[int, ...]
    """Of the parts of the body, each a message of its own."""
    chunked: bool
    pause: float
    """Seconds before each part but the first."""
    gate: str
    """Where the app waits for the test: ``before`` the response, or in its ``middle``
    (behind the first part)."""
    wait: float
    """Seconds of ``wait_delivered``; 0: it is not called."""
    in_thread: bool
    """Whether it is waited for in a thread."""
    timeout: float
    """``delivery_timeout`` of a callback with ``when="acknowledged"``; 0: there is none."""

    @classmethod
    def by(cls, query: str) -> "Wanted":
        found = dict(parse_qsl(query, keep_blank_values=True))
        return cls(
            tuple(int(size) for size in found["sizes"].split(",")),
            found.get("framing") == "chunked",
            float(found.get("pause", "0")),
            found.get("gate", ""),
            float(found.get("wait", "0")),
            "thread" in found,
            float(found.get("timeout", "0")),
        )

    def parts(self) -> list[bytes]:
        return [b"x" * size for size in self.sizes]

    def headers(self) -> list[tuple[str, str]]:
        return [] if self.chunked else [("content-length", str(sum(self.sizes)))]

    def register(self, ident: str) -> None:
        after_response.using(takes_outcome=True)(tell, ident)
        if self.wait:
            waiting: Callable[..., Any] = waiting_in_thread if self.in_thread else waiting_in_loop
            after_response.using(takes_outcome=True, concurrent=True)(waiting, ident, self.wait)
        if self.timeout:
            using = after_response.using(
                takes_outcome=True, when="acknowledged", delivery_timeout=self.timeout
            )
            after_response.using(concurrent=True)(watch, using(acknowledged, ident), ident)


def said(event: str, ident: str, outcome: Outcome) -> None:
    record(event, ident, completion=outcome.completion.name, delivery=outcome.delivery.name)


def tell(outcome: Outcome, ident: str) -> None:
    said("sealed", ident, outcome)


async def waiting_in_loop(outcome: Outcome, ident: str, seconds: float) -> None:
    reached = await outcome.wait_delivered("acknowledged", seconds)
    record("waited", ident, delivery=reached.name)


def waiting_in_thread(outcome: Outcome, ident: str, seconds: float) -> None:
    reached = outcome.wait_delivered_sync("acknowledged", seconds)
    record("waited", ident, delivery=reached.name)


async def acknowledged(outcome: Outcome, ident: str) -> None:
    said("acknowledged", ident, outcome)
    await asyncio.sleep(0)


async def watch(callback: Callback[None], ident: str) -> None:
    """What became of it."""
    try:
        await callback.wait()
    except CallbackNotRun:
        pass
    record("settled", ident, state=callback.state.name)
