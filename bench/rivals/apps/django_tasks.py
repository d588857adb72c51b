"""The work as tasks of Django; a worker finds them by their paths."""

from typing import Any

from django.tasks import task

from .. import work
from ..work import Work


@task
async def async_task(token: str, seconds: float) -> None:
    await work.async_work(token, seconds)


@task
def sync_task(token: str, seconds: float) -> None:
    work.sync_work(token, seconds)


@task
async def async_task_that_fails(token: str, seconds: float) -> None:
    await work.async_work_that_fails(token, seconds)


@task
def sync_task_that_fails(token: str, seconds: float) -> None:
    work.sync_work_that_fails(token, seconds)


def task_of(each: Work) -> Any:
    if each.kind == "async":
        return async_task_that_fails if each.fails else async_task
    return sync_task_that_fails if each.fails else sync_task
