"""Settings of the tests' Django project. Also served by real servers."""

import os
import tempfile
from pathlib import Path

_DIRECTORY = Path(os.environ.get("ASYNC_AFTER_TEST_DIRECTORY") or tempfile.mkdtemp())

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.django.site.urls"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
INSTALLED_APPS = ["async_after", "tests.django.site"]
MIDDLEWARE = [
    "async_after.django.AfterResponseMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _DIRECTORY / "site.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
        # A file: callbacks of a server run in other threads.
        "TEST": {"NAME": _DIRECTORY / "test.sqlite3"},
    }
}
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
