"""Django's settings for the way under test: what its documentation asks for, and no more."""

import os
from typing import Any

from ..work import LEDGER, WAY

_WAY = os.environ[WAY]

SECRET_KEY = "rivals"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "bench.rivals.apps.django_app"
INSTALLED_APPS = {
    "django-after-response": ["after_response"],
    "django-tasks-db": ["django_tasks_db"],
}.get(_WAY, [])
MIDDLEWARE = {
    "middleware": ["bench.rivals.apps.django_ways.work_after_get_response"],
    "async_after-middleware": ["async_after.django.AfterResponseMiddleware"],
}.get(_WAY, [])
_BACKENDS = {
    "immediate": "django.tasks.backends.immediate.ImmediateBackend",
    "django-tasks-inprocess": "django_tasks_inprocess.InProcessTaskBackend",
    "django-tasks-db": "django_tasks_db.DatabaseBackend",
}
TASKS = {"default": {"BACKEND": _BACKENDS[_WAY]}} if _WAY in _BACKENDS else {}
DATABASES: dict[str, Any] = {}
if _WAY == "django-tasks-db":
    # https://docs.djangoproject.com/en/stable/ref/databases/#database-is-locked-errors
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ[LEDGER] + ".sqlite3",
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
# As in production: Django's own configuration shows an error on the terminal only with DEBUG.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
}
