"""What the tests want, as JSON in an environment variable (``Wanted``)."""

import json
import os
from typing import Any

VARIABLE = "ASYNC_AFTER_DBSITE"

_WANTED: dict[str, Any] = json.loads(os.environ[VARIABLE])

SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.django.dbsite.urls"
INSTALLED_APPS = ["tests.django.dbsite"]
IS_WRAPPED: bool = _WANTED["is_wrapped"]
MIDDLEWARE = [] if IS_WRAPPED else ["async_after.django.AfterResponseMiddleware"]
ASYNC_AFTER = {"MAX_THREADS": _WANTED["max_threads"], "WSGI_LANE": _WANTED["wsgi_lane"]}
SERVER: str = _WANTED["server"]
USE_TZ = True
TIME_ZONE = "UTC"
LOGGING_CONFIG = None  # warnings and worse go to stderr, which a failing test shows
DATABASES = _WANTED["databases"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": {"BACKEND": "tests.django.dbsite.caches.Recorded"}}
