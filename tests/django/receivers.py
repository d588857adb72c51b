"""Receivers of ``response_finished`` for one test."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from async_after.django import response_finished

Heard = list[dict[str, Any]]


@contextmanager
def connected(*receivers: Any, sender: Any = None) -> Iterator[None]:
    for receiver in receivers:
        response_finished.connect(receiver, sender=sender, weak=False)
    try:
        yield
    finally:
        for receiver in receivers:
            assert response_finished.disconnect(receiver, sender=sender)


class Receivers:
    """What a plain receiver and a coroutine function have heard."""

    def __init__(self) -> None:
        self.heard: Heard = []
        self.aheard: Heard = []

    def hear(self, **named: Any) -> None:
        self.heard.append(named)

    async def ahear(self, **named: Any) -> None:
        await asyncio.sleep(0)
        self.aheard.append(named)

    def one(self) -> dict[str, Any]:
        """What both have heard, once."""
        [named], [anamed] = self.heard, self.aheard
        assert named == anamed
        return named
