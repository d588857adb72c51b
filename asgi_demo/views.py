import asyncio
import logging
from collections.abc import AsyncIterator

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render

from async_after import aafter_response, after_response

from .callbacks import break_down, send_receipt, write_audit_row
from .models import AuditRow, Order

logger = logging.getLogger("asgi_demo")


def index(request: HttpRequest) -> HttpResponse:
    return render(request, "asgi_demo_index.html")


async def order(request: HttpRequest) -> HttpResponse:
    """An async view with an async and a sync callback."""
    if request.method != "POST":
        return render(request, "asgi_demo_order.html")
    item = request.POST.get("item", "")[:100] or "nothing in particular"
    placed = await Order.objects.acreate(item=item)
    await aafter_response.using(takes_outcome=True)(write_audit_row)
    await aafter_response(send_receipt, placed.pk, item)
    logger.info("view       order %s is placed, two callbacks are registered", placed.pk)
    return render(request, "asgi_demo_order.html", {"placed": placed})


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Ten lines in two seconds. Leave half way and look at the audit rows."""
    after_response.using(takes_outcome=True)(write_audit_row)

    async def lines() -> AsyncIterator[str]:
        for number in range(10):
            yield f"line {number}\n"
            await asyncio.sleep(0.2)

    logger.info("view       the stream begins, one callback is registered")
    return StreamingHttpResponse(lines(), content_type="text/plain")


def fail(request: HttpRequest) -> HttpResponse:
    """A sync view that raises: its callback runs behind the error page."""
    after_response.using(takes_outcome=True)(write_audit_row)
    raise RuntimeError("this page always fails")


def callback_fails(request: HttpRequest) -> HttpResponse:
    after_response(break_down)
    after_response.using(takes_outcome=True)(write_audit_row)
    return HttpResponse("The terminal shows a traceback; the callback behind it ran all the same.")


async def audit(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"rows": [row async for row in AuditRow.objects.order_by("pk").values()]})
