"""Hangs the end of an exchange on a Django response, by its closers.

The middleware hangs it on the response that it returns itself, so it should be the outermost.
"""

import _thread
from collections.abc import Callable
from functools import partial
from typing import Any

from django.http.response import HttpResponseBase

from .._core.exchange import Exchange, current_exchange
from .._core.runtime import gevent, log
from .body import AsyncBody, Body, SyncBody, one_by_one
from .ending import DjangoEnding


def hang_on(response: HttpResponseBase, ending: DjangoEnding, *, is_file_left_alone: bool) -> None:
    """Let this response end the exchange when it is closed."""
    ending.belong_to(response)
    body: Body | None = None
    if response.streaming and not is_file_left_alone:
        # HttpResponseBase does not declare it, StreamingHttpResponse does.
        streaming: Any = response
        content = streaming.streaming_content
        if streaming.is_async:
            body = AsyncBody(ending, content)
        elif ending.handler.keeps_context:
            # Django would make a list of it before it sends the first byte,
            # and the end of the iterator would say nothing about the client.
            body = AsyncBody(ending, one_by_one(content))
        else:
            body = SyncBody(ending, content)
        streaming.streaming_content = body
    enter = _Enter(ending)
    add_closers(response, enter, _End(ending, body, enter))


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


class _Closer:
    """Pickles to nothing: a cache may pickle the response with its closers."""

    def __call__(self) -> None:
        raise NotImplementedError

    def __reduce__(self) -> tuple[type[partial[int]], tuple[type[int]]]:
        return partial, (int,)  # of no module of ours, which may move


class _Enter(_Closer):
    """The first closer: the others register on this exchange."""

    def __init__(self, ending: DjangoEnding) -> None:
        self._ending = ending
        self.before: Exchange | None = None

    def __call__(self) -> None:
        # Where it has ended already (a test client has read the body) they are late, and run.
        self.before = current_exchange.get()
        current_exchange.set(self._ending.exchange)


class _End(_Closer):
    """The last closer: the response is through, the callbacks run."""

    def __init__(self, ending: DjangoEnding, body: Body | None, enter: _Enter) -> None:
        self._ending = ending
        self._body = body
        self._enter = enter
        self._is_called = False

    def __call__(self) -> None:
        if self._is_called:
            current_exchange.set(self._enter.before)
            return
        self._is_called = True
        try:
            self._end()
        except RecursionError:  # there is no stack left for it
            _thread.start_new_thread(self._ending.end_soon, ())
        except Exception:
            exchange = self._ending.exchange
            message = "ending %s in close() failed"
            log("exception", "exchange_end_failed", message, exchange.label(), of=exchange)

    def _end(self) -> None:
        exchange = self._ending.exchange
        before = self._enter.before if exchange.is_ended else exchange.parent
        try:
            self._complete()
        finally:
            current_exchange.set(before)
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
        elif body.is_exhausted or not (body.is_started or ending.handler.is_server):
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
            if self._ending.handler.keeps_context:
                self._ending.exchange.disconnect()
            # In a thread that holds no lock of ours: the one where the
            # garbage collector runs may.
            gevent.start_thread(self._ending.end_soon)
        except Exception:  # the interpreter or the loop is gone
            pass
