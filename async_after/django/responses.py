"""A response and what is to run after it, in one expression.

Nothing of it stays on the response, which a cache may pickle: it is registered
on the current exchange, as ``after_response`` does.
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from .._core.registration import after_response

P = ParamSpec("P")
Response = TypeVar("Response", bound=HttpResponseBase)


def then(
    response: Response, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs
) -> Response:
    """Run ``func(*args, **kwargs)`` after the current response; returns ``response``.

    ``return then(render(request, "done.html"), send_receipt, order.pk)``.
    Raises as ``after_response``, and ``TypeError`` for what is no response.
    """
    if not isinstance(response, HttpResponseBase):
        raise TypeError(
            "then(response, func): the response must be one of Django's, not"
            f" {type(response).__name__}"
        )
    after_response(func, *args, **kwargs)
    return response


class ThenMixin:
    """Gives a response class the keyword ``then``: a callable without arguments,
    plain or ``async def``, that runs after the current response.

    It stands first: ``class ResponseThen(ThenMixin, Response)``. The response
    is not made if ``after_response`` raises, and the callback is cancelled if
    the response cannot be made.
    """

    def __init__(self, *args: Any, then: Callable[[], object] | None = None, **kwargs: Any) -> None:
        callback = None if then is None else after_response(then)
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            if callback is not None:
                callback.cancel()
            raise


class HttpResponseThen(ThenMixin, HttpResponse):
    """``HttpResponseThen(b"done", then=notify)``."""


class JsonResponseThen(ThenMixin, JsonResponse):
    """``JsonResponseThen({"order": 1}, then=notify)``."""


class StreamingHttpResponseThen(ThenMixin, StreamingHttpResponse):
    """``StreamingHttpResponseThen(parts(), then=notify)``: after the last part."""


class FileResponseThen(ThenMixin, FileResponse):
    """``FileResponseThen(open("report.pdf", "rb"), then=count_download)``."""
