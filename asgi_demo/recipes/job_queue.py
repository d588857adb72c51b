"""Hand a job to a queue, after the response and after the commit.

For views. Handed over inside the transaction, a worker may look for the order
before it is there, or do the job of one that was rolled back: ``on_commit=True``
waits for the commit too, and skips it after a rollback. Any queue will do: with
Celery it is ``send_receipt.delay``. Django's own does the job at once, after the
response, until TASKS in the settings names another. A process that is killed in
between loses the job: where that matters, write it to a table in the transaction.
"""

from typing import TYPE_CHECKING

import django
from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from asgi_demo.models import Order
from async_after import after_response

if TYPE_CHECKING or django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from .task_before_6 import task


@task
def send_receipt(order: int) -> None:
    item = Order.objects.get(pk=order).item
    send_mail(f"Order {order}", f"Thank you for ordering: {item}", None, ["you@example.com"])


@require_POST
def checkout(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        order = Order.objects.create(item=request.POST.get("item", "")[:100])
        after_response.using(on_commit=True)(send_receipt.enqueue, order.pk)
        if not order.item:  # found out late: the order is undone, and so is its receipt
            transaction.set_rollback(True)
            return HttpResponse("What do you want?", status=400)
    return JsonResponse({"order": order.pk})


urlpatterns = [path("checkout", checkout)]
