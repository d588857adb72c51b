"""Views that register the callbacks their query string names (see ``work``)."""

import threading
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from django.core.cache import caches
from django.db import connection, transaction
from django.http import HttpRequest, JsonResponse

from async_after import Callback, after_response, get_runner

from . import work
from .caches import clients
from .models import Row

DEADLINE = 20.0

registered: dict[str, list[Callback[Any]]] = defaultdict(list)


def sync_view(request: HttpRequest, ident: str) -> JsonResponse:
    rows = Row.objects.count() if "orm" in request.GET else None
    return _register(request, ident, rows)


async def async_view(request: HttpRequest, ident: str) -> JsonResponse:
    rows = await Row.objects.acount() if "orm" in request.GET else None
    return _register(request, ident, rows)


def _register(request: HttpRequest, ident: str, rows: int | None) -> JsonResponse:
    cache: Any = caches["default"]
    registrar = after_response.using(concurrent="concurrent" in request.GET)
    for name in request.GET.getlist("do"):
        registered[ident].append(registrar(getattr(work, name), ident))
    return JsonResponse({"rows": rows, "client": cache.number})


@transaction.non_atomic_requests
async def ended(request: HttpRequest, ident: str) -> JsonResponse:
    """Wait for the callbacks of another request; what became of each."""
    found = []
    for callback in registered[ident]:
        try:
            await callback.wait(DEADLINE)
        except Exception:
            pass
        found.append(
            {
                "state": callback.state.name,
                "result": callback.result() if callback.state.name == "SUCCEEDED" else None,
                "error": repr(callback.exception()) if callback.state.name == "FAILED" else None,
            }
        )
    return JsonResponse({"callbacks": found})


@transaction.non_atomic_requests
async def state(request: HttpRequest) -> JsonResponse:
    # Any: only PostgreSQL's wrapper has a pool.
    pool = getattr(connection, "pool", None)
    statistics = get_runner().statistics()
    return JsonResponse(
        {
            "workers": sum(
                thread.name.startswith("async_after worker") for thread in threading.enumerate()
            ),
            "clients": [{"number": c.number, "closed": c.closed} for c in clients],
            "pool": None if pool is None else pool.get_stats(),
            "statistics": {**asdict(statistics), "registered": statistics.registered},
        }
    )
