"""async_after in a Django project."""

from .middleware import AfterResponseMiddleware
from .responses import (
    FileResponseThen,
    HttpResponseThen,
    JsonResponseThen,
    StreamingHttpResponseThen,
    ThenMixin,
    then,
)
from .signals import response_finished

__all__ = [
    "AfterResponseMiddleware",
    "FileResponseThen",
    "HttpResponseThen",
    "JsonResponseThen",
    "StreamingHttpResponseThen",
    "ThenMixin",
    "response_finished",
    "then",
]
