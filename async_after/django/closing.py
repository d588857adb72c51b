"""Hangs the end of an exchange on a Django response.

Promise 3, outside_in: each step of the body and ``close()`` run inside the
exchange. The middleware hangs it on the response that it returns itself, so
it should be the outermost.
"""

import _thread
import asyncio
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.http.response import HttpResponseBase

from .. import hubs
from ..exchange import Exchange, current_exchange
from ..instrumentation import log
from ..wsgi_environ import WsgiExchange
from .places import Place


class Ending:
    """Ends one exchange, once, whoever comes first: the body or ``close()``."""

    def __init__(self, exchange: WsgiExchange, place: Place) -> None:
        self.exchange = exchange
        self.place = place
        self.error: BaseException | None = None
        """What has gone wrong, if it ends later."""
        self.thread: int | None = None
        """The one that has iterated a synchronous body to its end."""
        self._response: weakref.ref[HttpResponseBase] | None = None

    def belong_to(self, response: HttpResponseBase) -> None:
        # Weakly, so that a response that nobody closes is collected at once,
        # and its last closer can say so.
        self._response = weakref.ref(response)

    def end_with(self, task: "asyncio.Task[Any] | None") -> None:
        """End it at the latest with the task of this request.

        Django closes no response that cannot be sent (uvicorn on uvloop raises
        RuntimeError where the client has gone), and what has failed keeps it
        alive. The task is the server's, or, in Django 5.2, one of Django's own
        that sends the response: if that ends well, ``close()`` comes after it;
        if not, Django raises the same error to the server, and sends no more.
        """
        if task is None or not self.place.is_server:
            return
        weak = weakref.ref(self)
        is_djangos = "ASGIHandler" in getattr(task.get_coro(), "__qualname__", "")

        def end(task: "asyncio.Task[Any]") -> None:
            ending = weak()
            if ending is None or ending.exchange.is_ended:
                return
            error = None if task.cancelled() else task.exception()
            if error is None:
                if is_djangos:
                    return
                ending.exchange.disconnect()
            else:
                # Of send(): Django answers what a view raises, and what a body
                # raises has ended the exchange already.
                ending.exchange.refuse(error)
            ending.end_detached(error)

        task.add_done_callback(end)

    def start(self) -> HttpResponseBase | None:
        """Tell the exchange what the response says of itself, as late as
        possible; the server does not tell us more."""
        response = self._response() if self._response is not None else None
        exchange = self.exchange
        if response is not None and exchange.status is None and not exchange.is_ended:
            headers = [*response.items()]
            headers += [
                ("Set-Cookie", cookie.OutputString()) for cookie in response.cookies.values()
            ]
            exchange.start(
                response.status_code,
                [(_bytes(name), _bytes(value)) for name, value in headers],
            )
        return response

    def end(self, error: BaseException | None = None) -> None:
        if self._ends(error):
            run_here, run = self.place.run_here, self.place.run
            (run_here if self.thread == _thread.get_ident() else run)(self.exchange)
        self.place.hold(self.exchange)

    async def aend(self, error: BaseException | None = None) -> None:
        if self._ends(error):
            await self.place.arun(self.exchange)

    def end_detached(self, error: BaseException | None = None) -> None:
        """Without waiting for the callbacks."""
        if self._ends(error):
            self.place.run_detached(self.exchange)

    def _ends(self, error: BaseException | None) -> bool:
        """End it; whether it has callbacks, which are to be run."""
        if self.exchange.is_ended:
            return False
        has_callbacks = self.exchange.end(error or self.error)
        if not has_callbacks:
            self.place.finish(self.exchange)
        return has_callbacks


def hang_on(response: HttpResponseBase, ending: Ending, *, is_file_left_alone: bool) -> None:
    """Let this response end the exchange when it is closed."""
    ending.belong_to(response)
    body: _Steps | None = None
    if response.streaming and not is_file_left_alone:
        # HttpResponseBase does not declare it, StreamingHttpResponse does.
        streaming: Any = response
        content = streaming.streaming_content
        if streaming.is_async:
            body = _AsyncSteps(ending, content)
        elif ending.place.keeps_context:
            # Django would make a list of it before it sends the first byte,
            # and the end of the iterator would say nothing about the client.
            body = _AsyncSteps(ending, _one_by_one(content))
        else:
            body = _SyncSteps(ending, content)
        streaming.streaming_content = body
    add_closers(response, _Enter(ending), _End(ending, body))


def add_closers(
    response: HttpResponseBase, first: Callable[[], None], last: Callable[[], None]
) -> None:
    """The one door to ``HttpResponseBase._resource_closers``.

    Django offers no public way to hear of ``close()``; this list is called in
    order, and whatever is raised there is swallowed without a log.
    """
    closers: list[Callable[[], None]] = response._resource_closers  # type: ignore[attr-defined]
    closers.insert(0, first)
    closers.append(last)


class _Steps:
    """A streaming body, each step inside the exchange. Counts its bytes."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._exchange = ending.exchange
        self._before: Exchange | None = None
        self.is_started = False
        self.is_exhausted = False

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
        if isinstance(error, Exception):
            return error
        self._exchange.disconnect()
        return None


class _SyncSteps(_Steps, Iterator[Any]):
    def __init__(self, ending: Ending, content: Iterable[Any]) -> None:
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


class _AsyncSteps(_Steps, AsyncIterator[Any]):
    def __init__(self, ending: Ending, content: AsyncIterable[Any]) -> None:
        super().__init__(ending)
        self._content: AsyncIterator[Any] = aiter(content)

    async def __anext__(self) -> Any:
        self._enter()
        try:
            part = await self._content.__anext__()
        except StopAsyncIteration:
            self.is_exhausted = True
            self._content = _one_by_one(())  # it refers to the response, and that to this
            if not self._ending.place.is_server:
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


def _bytes(text: str) -> bytes:
    # Django has encoded what is not latin-1; a cookie's value may still be.
    return text.encode("latin-1", "replace")


async def _one_by_one(content: Iterable[Any]) -> AsyncIterator[Any]:
    for part in await sync_to_async(_list)(content):
        yield part


def _list(content: Iterable[Any]) -> list[Any]:
    return [*content]


class _Closer:
    """Pickles to nothing: a cache may pickle the response with its closers."""

    def __call__(self) -> None:
        raise NotImplementedError

    def __reduce__(self) -> tuple[type["Nothing"], tuple[()]]:
        return Nothing, ()


class Nothing:
    """What is left of a closer in a cached response."""

    def __call__(self) -> None:
        pass


class _Enter(_Closer):
    """The first closer: the others register on this exchange."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def __call__(self) -> None:
        if not self._ending.exchange.is_ended:
            current_exchange.set(self._ending.exchange)


class _End(_Closer):
    """The last closer: the response is through, the callbacks run."""

    def __init__(self, ending: Ending, body: _Steps | None) -> None:
        self._ending = ending
        self._body = body
        self._is_called = False

    def __call__(self) -> None:
        if self._is_called:
            return
        self._is_called = True
        try:
            self._end()
        except Exception:
            exchange = self._ending.exchange
            message = "ending %s in close() failed"
            log("exception", "exchange_end_failed", message, exchange.label(), of=exchange)

    def _end(self) -> None:
        exchange = self._ending.exchange
        parent = exchange.parent
        try:
            self._complete()
        finally:
            current_exchange.set(parent)
            if not exchange.is_ended:
                exchange.environ = getattr(exchange.request, "environ", None)
            self._ending.end()

    def _complete(self) -> None:
        ending, exchange, body = self._ending, self._ending.exchange, self._body
        response: Any = ending.start()
        if exchange.is_ended or ending.error is not None:
            pass
        elif body is None:
            size = None if response is None or response.streaming else len(response.content)
            exchange.body(size, completes=True)
        elif body.is_exhausted or not (body.is_started or ending.place.is_server):
            # A test client takes away the body of HEAD, 204 and 304.
            exchange.complete()
        elif exchange.is_bodiless or exchange.has_all_bytes():
            exchange.complete()  # though the last step never came (promise 1)
        else:
            exchange.disconnect()

    def __del__(self) -> None:
        # The response was thrown away and never closed: the client left while
        # a sync view ran under ASGI, or an outer middleware replaced it.
        if self._is_called or self._ending.exchange.is_ended:
            return
        try:
            if self._ending.place.keeps_context:
                self._ending.exchange.disconnect()
            # In a thread that holds no lock of ours: the one where the
            # garbage collector runs may.
            hubs.start_thread(self._ending.end_detached)
        except Exception:  # the interpreter or the loop is gone
            pass
