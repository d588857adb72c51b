"""A rate limit on Django's cache, which is written to after the response.

A decorator for views, plain or ``async def``. The view's client waits for one look
at the cache only. What is under way is not counted yet: as many requests as come
at once may pass beyond the limit. Needs a cache that all processes share and that
counts atomically (Redis, Memcached); with LocMemCache each process has its own.
Behind a proxy REMOTE_ADDR is the proxy's, unless you let it be set.
"""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.urls import path

from async_after import aafter_response, after_response

View = Callable[..., Any]


def rate_limit(requests: int, seconds: int) -> Callable[[View], View]:
    """So many in each period, by client and view; then 429."""

    def decorate(view: View) -> View:
        @wraps(view)
        def limited(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            key = cache_key(request, view, seconds)
            if cache.get(key, 0) >= requests:
                return _refusal(seconds)
            after_response(_count, key, seconds)
            return view(request, *args, **kwargs)

        @wraps(view)
        async def alimited(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            key = cache_key(request, view, seconds)
            if await cache.aget(key, 0) >= requests:
                return _refusal(seconds)
            await aafter_response(_count, key, seconds)
            return await view(request, *args, **kwargs)

        return alimited if iscoroutinefunction(view) else limited

    return decorate


def cache_key(request: HttpRequest, view: View, seconds: int) -> str:
    period = int(time.time()) // seconds
    name = f"{view.__module__}.{view.__qualname__}"
    return f"rate-limit:{name}:{request.META['REMOTE_ADDR']}:{period}"


def _count(key: str, seconds: int) -> None:
    cache.add(key, 0, timeout=2 * seconds)  # longer than its period, so that it is there now
    cache.incr(key)


def _refusal(seconds: int) -> HttpResponse:
    left = seconds - int(time.time()) % seconds
    return HttpResponse("Too many requests.", status=429, headers={"Retry-After": str(left)})


@rate_limit(requests=5, seconds=60)
def search(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Found nothing.")


urlpatterns = [path("search", search)]
