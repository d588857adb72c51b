"""Celery with a Redis broker; the worker is started with this module.

https://docs.celeryq.dev/en/stable/getting-started/first-steps-with-celery.html
"""

import os

from celery import Celery  # type: ignore[import-untyped]

from .. import work
from . import BROKER

app = Celery("rivals", broker=os.environ[BROKER])
sync_task = app.task(work.sync_work, name="sync_work")
sync_task_that_fails = app.task(work.sync_work_that_fails, name="sync_work_that_fails")
