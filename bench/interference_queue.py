"""The queue beside the ways of ``interference``: Celery with a Redis broker.

https://docs.celeryq.dev/en/stable/getting-started/first-steps-with-celery.html. The
worker is started with this module; it is another process.
"""

import os

from celery import Celery  # type: ignore[import-untyped]
from django.conf import settings

from . import interference_work as work

if not settings.configured:  # in the worker
    work.configure(__name__)
urlpatterns: list[object] = []  # Celery runs Django's checks, which ask for them
app = Celery("interference", broker=os.environ[work.BROKER])
tasks = {
    kind: app.task(function, name=kind, ignore_result=True)
    for kind, function in work.FUNCTIONS.items()
    if kind != "async"
}
