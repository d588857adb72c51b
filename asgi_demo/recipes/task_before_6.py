"""The part of ``django.tasks`` that a recipe needs, for Django 5.2, which has none.

In a project of yours: ``pip install django-tasks``, and ``from django_tasks import task``.
"""

import logging
from collections.abc import Callable
from typing import Generic, ParamSpec

logger = logging.getLogger(__name__)

P = ParamSpec("P")


class Task(Generic[P]):
    def __init__(self, func: Callable[P, object]) -> None:
        self.func = func

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """At once, and a failure is the task's own, as Django's ImmediateBackend has it."""
        try:
            self.func(*args, **kwargs)
        except Exception:
            logger.exception("task %s failed", self.func.__qualname__)


def task(func: Callable[P, object]) -> Task[P]:
    return Task(func)
