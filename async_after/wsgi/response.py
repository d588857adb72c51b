"""Watches the response of a WSGI app: ``start_response``, each step of the body, ``close()``.

Promise 3, outside_in: each of them is entered with the exchange set.
"""

import _thread
import functools
import sys
from collections.abc import Callable, Iterable, Iterator
from types import NoneType
from typing import Any

from .._core.exchange import current_exchange
from .._core.runtime import gevent
from .ending import Ending, Lane
from .environ import Headers, StartResponse, WsgiExchange


class Response(Ending):
    """What the server and the app tell of one response."""

    def __init__(self, exchange: WsgiExchange, lane: Lane, start_response: StartResponse) -> None:
        super().__init__(exchange, lane)
        self.is_started: bool = False
        self._start_response = start_response
        self._error_before = sys.exception()

    def start(
        self, status: str, headers: list[tuple[str, str]], *exc_info: Any, **more: Any
    ) -> Callable[[bytes], object]:
        """``start_response``. Called again, with ``exc_info``, it replaces what
        was not sent yet, or raises what it was given: the server decides."""
        before = Headers(headers)
        write = self._start_response(status, headers, *exc_info, **more)
        self.is_started = True
        code = status[:3]
        if code.isascii() and code.isdecimal():
            self.exchange.start(int(code), before)
        return functools.partial(self._write, write)

    def _write(self, write: Callable[[bytes], object], data: bytes) -> None:
        try:
            write(data)
        except OSError as error:
            self.exchange.refuse(error)
            raise
        self.exchange.body(len(data), completes=False)

    def watch_file(self, file: Any) -> bool:
        """Hear of the end of a file that the server sends by itself; ``False``
        if it does not let us. (Django patches its ``close`` too.)"""
        # mod_wsgi's cannot be patched, but looks its file's close() up when it is closed.
        closed = file.filelike if type(file).__module__ == "mod_wsgi" else file
        close = _CloseFile(self, getattr(closed, "close", None))
        try:
            closed.close = close
        except Exception:
            close.response = None
        return close.response is not None

    def close(self, close: Callable[[], object] | None, error: BaseException | None = None) -> None:
        """The server is through with it. What the app does now is inside, too."""
        before = current_exchange.get()
        if not self.exchange.is_ended:
            current_exchange.set(self.exchange)
        try:
            if close is not None:
                close()
        except BaseException as raised:
            error = raised if error is None else error
            raise
        finally:
            current_exchange.set(before)
            self.end(error)

    def end_soon(self, error: BaseException | None = None) -> None:
        self.forget_unsent()
        self.exchange.environ = None
        super().end_soon(error)

    def forget_unsent(self) -> None:
        """The app has failed: headers go out with the first part of the body
        (PEP 3333, "The start_response() Callable"), and announce nothing before."""
        exchange = self.exchange
        if exchange.body_bytes == 0 and exchange.status is not None:
            exchange.start(exchange.status, ())

    def sees_end(self) -> bool:
        """Whether the server closes it for another reason than its being complete.

        Nothing says so, but on most servers ``close()`` is called while what
        the socket has raised passes by: the client is gone. Or what is to end
        the server's thread: gunicorn's timeout raises ``SystemExit`` in it.
        """
        error = sys.exception()
        if error is self._error_before:
            return False
        if error is not None and issubclass(type(error), OSError):
            self.exchange.refuse(error)
            return True
        return not issubclass(type(error), Exception | GeneratorExit | NoneType)


class Body(Iterator[bytes]):
    """The body of a response, each step inside the exchange. Counts its bytes."""

    def __init__(self, response: Response, body: Iterable[bytes]) -> None:
        self._response = response
        self._exchange = response.exchange
        self._body = body
        self._steps: Iterator[bytes] | None = None
        self._is_exhausted = False
        self._error: BaseException | None = None
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        before = current_exchange.get()
        current_exchange.set(self._exchange)
        try:
            if self._steps is None:
                self._steps = iter(self._body)
            part = next(self._steps)
            self._exchange.body(len(part), completes=False)
        except StopIteration:
            self._is_exhausted = True
            raise
        except BaseException as error:
            self._error = error
            self._response.forget_unsent()
            raise
        finally:
            current_exchange.set(before)
        return part

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if self._is_closed:
            if close is not None:
                close()
            return
        self._is_closed = True
        try:
            self._see_completion()
            self._response.close(close, self._error)
        except RecursionError:  # there is no stack left for it
            if not self._exchange.is_ended:
                self._is_closed = False  # or the destructor does it
                _thread.start_new_thread(self._response.end_soon, (self._error,))
            raise

    def _see_completion(self) -> None:
        exchange = self._exchange
        if self._error is not None:
            return
        if self._response.sees_end():
            pass
        elif self._steps is not None and not self._response.is_started:
            pass  # the server has to say what it thinks of that
        elif self._is_exhausted or exchange.is_bodiless or exchange.has_all_bytes():
            exchange.complete()
        else:
            # No server stops before the end while the client is there.
            exchange.disconnect()

    def __del__(self) -> None:
        # PEP 3333 has the server call close(), whatever happens; some other
        # middleware may have forgotten to pass that on.
        if not self._is_closed:
            self._is_closed = True
            self._see_completion()
            _end_elsewhere(self._response, self._error)


class _CloseFile:
    """The ``close`` of a file that the server sends by itself."""

    def __init__(self, response: Response, close: Callable[[], object] | None) -> None:
        self.response: Response | None = response
        self._close = close

    def __call__(self) -> None:
        # Once: the file refers to this, and its close() to the file.
        response, self.response = self.response, None
        close, self._close = self._close, None
        if response is not None:
            if not response.sees_end():
                response.exchange.body(None, completes=True)
            response.close(close)

    def __del__(self) -> None:
        if self.response is not None:
            _end_elsewhere(self.response, None)


def _end_elsewhere(response: Response, error: BaseException | None) -> None:
    """In a thread that holds no lock of ours: the one where the garbage
    collector runs may."""
    if not response.exchange.is_ended:
        gevent.start_thread(functools.partial(response.end_soon, error))


class SizedBody(Body):
    """Of a body with a length: for one part, a server sets Content-Length itself."""

    def __len__(self) -> int:
        length: int = len(self._body)  # type: ignore[arg-type]
        return length
