"""The body of a streaming Django response, each step of it inside the exchange."""

import _thread
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any

from asgiref.sync import sync_to_async

from .._core.exchange import Exchange, current_exchange
from .ending import DjangoEnding


class Body:
    """A streaming body, each step inside the exchange. Counts its bytes."""

    def __init__(self, ending: DjangoEnding) -> None:
        self._ending = ending
        self._exchange = ending.exchange
        self._before: Exchange | None = None
        self.is_started: bool = False
        self.is_exhausted: bool = False

    def _enter(self) -> None:
        if not self.is_started:
            self.is_started = True
            self._ending.start()
        self._before = current_exchange.get()
        current_exchange.set(self._exchange)

    def _leave(self) -> None:
        current_exchange.set(self._before)
        self._before = None

    def _part(self, part: Any) -> None:
        self._exchange.body(len(part), completes=False)

    def _reason(self, error: BaseException) -> BaseException | None:
        """What went wrong with the body: ``None`` if it was cut."""
        if issubclass(type(error), Exception):
            return error
        self._exchange.disconnect()
        return None


class SyncBody(Body, Iterator[Any]):
    def __init__(self, ending: DjangoEnding, content: Iterable[Any]) -> None:
        super().__init__(ending)
        self._content = iter(content)

    def __next__(self) -> Any:
        self._enter()
        try:
            part = next(self._content)
        except StopIteration:
            self.is_exhausted = True
            self._ending.thread = _thread.get_ident()
            self._content = iter(())  # it refers to the response, and that to this
            raise
        except BaseException as error:
            # The server does not have it yet; it will call close().
            self._ending.error = self._reason(error)
            raise
        finally:
            self._leave()
        self._part(part)
        return part


class AsyncBody(Body, AsyncIterator[Any]):
    def __init__(self, ending: DjangoEnding, content: AsyncIterable[Any]) -> None:
        super().__init__(ending)
        self._content: AsyncIterator[Any] = aiter(content)

    async def __anext__(self) -> Any:
        self._enter()
        try:
            part = await self._content.__anext__()
        except StopAsyncIteration:
            self.is_exhausted = True
            self._content = one_by_one(())  # it refers to the response, and that to this
            if not self._ending.handler.is_server:
                # Test clients call close() on the loop, where it cannot wait.
                self._exchange.complete()
                await self._ending.aend()
            raise
        except BaseException as error:
            # Nobody may call close() now: under ASGI, Django does not.
            await self._ending.aend(self._reason(error))
            raise
        finally:
            self._leave()
        self._part(part)
        return part


async def one_by_one(content: Iterable[Any]) -> AsyncIterator[Any]:
    for part in await sync_to_async(_list)(content):
        yield part


def _list(content: Iterable[Any]) -> list[Any]:
    return [*content]
