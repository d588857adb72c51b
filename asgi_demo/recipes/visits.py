"""A signal of your own for the visits of one view, sent after the response.

The signal and the view go where your views are, the receivers to a module that
``AppConfig.ready()`` imports. Only responses that were sent count. Django logs what
a receiver raises (``send_robust``). The count needs a cache that all processes share
and that counts atomically (Redis, Memcached): with LocMemCache it is of one process.
A cache may forget: for a count that lasts, add to a row of a table with ``F()``.
"""

from typing import Any

from django.core.cache import cache
from django.dispatch import Signal, receiver
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from async_after import after_response

article_visited = Signal()
"""Gets ``article``, its number, which is all that is kept of the request."""


def show_article(request: HttpRequest, number: int) -> HttpResponse:
    visited = after_response.using(when="success")
    visited(article_visited.send_robust, sender=show_article, article=number)
    if number == 0:
        raise Http404("there is no such article")  # no success, so no visit
    return HttpResponse(f"Article {number}")


@receiver(article_visited)
def count_visit(article: int, **kwargs: Any) -> None:
    key = f"visits:{article}"
    cache.add(key, 0, timeout=None)
    cache.incr(key)


def visits(request: HttpRequest, number: int) -> JsonResponse:
    return JsonResponse({"visits": cache.get(f"visits:{number}", 0)})


urlpatterns = [path("article/<int:number>", show_article), path("visits/<int:number>", visits)]
