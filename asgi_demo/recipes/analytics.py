"""A row for each response: method, path, status, size, time, and whether it was sent.

The model goes to models.py, the receiver to a module that ``AppConfig.ready()``
imports. The row is written after the response, in a thread of async_after's, so
nobody waits for the database. The path is stored without its query string.
"""

from typing import Any

from django.db import models
from django.db.models import Avg, Count, Sum
from django.dispatch import receiver
from django.http import HttpRequest, JsonResponse
from django.urls import path

from async_after import Outcome
from async_after.django import response_finished


class Hit(models.Model):
    at = models.DateTimeField(db_index=True)
    method = models.CharField(max_length=10)
    path = models.CharField(max_length=200)
    status = models.IntegerField(null=True)  # null: no response was begun
    completion = models.CharField(max_length=20)
    body_bytes = models.BigIntegerField(null=True)  # null: a file that the server read itself
    seconds = models.FloatField()


@receiver(response_finished)
def record_hit(outcome: Outcome, **kwargs: Any) -> None:
    Hit.objects.create(
        at=outcome.started_at,
        # As long as columns are, and without what PostgreSQL refuses: clients send anything.
        method=(outcome.method or "")[:10],
        path=(outcome.path or "").replace("\x00", "")[:200],
        status=outcome.status,
        completion=outcome.completion.value,
        body_bytes=outcome.body_bytes,
        seconds=outcome.duration,
    )


def report(request: HttpRequest) -> JsonResponse:
    """The busiest paths. Not for everybody."""
    hits = Hit.objects.values("method", "path", "status")
    rows = hits.annotate(hits=Count("pk"), bytes=Sum("body_bytes"), mean=Avg("seconds"))
    return JsonResponse({"rows": list(rows.order_by("-hits")[:100])})


urlpatterns = [path("report", report)]
