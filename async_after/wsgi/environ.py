"""What a WSGI environ, and what comes with it, tells of a request and its response."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .._core.delivery import Connection, probes
from .._core.exchange import KEY, Exchange

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]


def exchange_of(environ: Environ, start_response: StartResponse) -> Exchange | None:
    """The exchange that this request belongs to already, if any.

    An ASGI wrapper outside has hung it on the scope. What adapts WSGI to ASGI
    makes an environ without it: a2wsgi hands the scope on in
    ``asgi.scope``; for asgiref's ``WsgiToAsgi`` and Starlette's
    ``WSGIMiddleware`` this is the one door: ``start_response`` is a method of
    an object that has it.
    """
    exchange = environ.get(KEY)
    if exchange is None:
        scope = environ.get("asgi.scope")
        if scope is None:
            scope = getattr(getattr(start_response, "__self__", None), "scope", None)
        if isinstance(scope, dict):
            exchange = scope.get(KEY)
    return exchange


def path_of(environ: Environ) -> str:
    # PEP 3333, "Unicode Issues": bytes, decoded as latin-1.
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin-1", "replace").decode("utf-8", "replace")


class Files:
    """What the server's ``wsgi.file_wrapper`` has made for this request.

    Where that is a class, the server looks with ``isinstance`` whether it has
    got one back, and so do we. Some have a function (uWSGI), and know the
    object itself: that one is watched.
    """

    def __init__(self, environ: Environ) -> None:
        self._wrapper: Any = environ.get("wsgi.file_wrapper")
        self._made: list[object] = []
        self._is_function = self._wrapper is not None and not isinstance(self._wrapper, type)
        if self._is_function:
            environ["wsgi.file_wrapper"] = self._make

    def _make(self, *args: Any, **more: Any) -> Any:
        made = self._wrapper(*args, **more)
        self._made.append(made)
        return made

    def __contains__(self, body: object) -> bool:
        if self._is_function:
            return any(body is made for made in self._made)
        return self._wrapper is not None and isinstance(body, self._wrapper)

    def restore(self, environ: Environ) -> None:
        if self._is_function:
            environ["wsgi.file_wrapper"] = self._wrapper


class Headers(Iterable[tuple[bytes, bytes]]):
    """A copy, as the server may change that list (PEP 3333); encoded when somebody looks."""

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        self._headers = [*headers]

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        for name, value in self._headers:
            # What is not latin-1 the server refuses, and that is its business.
            yield name.encode("latin-1", "replace"), value.encode("latin-1", "replace")


class WsgiExchange(Exchange):
    """An exchange that knows its connection while the server is in ``close()``:
    later the environ, or its socket, may be another request's."""

    __slots__ = ("environ",)

    environ: Environ | None

    def end(self, error: BaseException | None = None) -> bool:
        try:
            return super().end(error)
        finally:
            self.environ = None

    def _connection(self) -> Connection | None:
        environ = self.environ if self.has_body_begun else None
        return None if environ is None else probes.of_environ(environ)
