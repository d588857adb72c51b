"""Django behind the wrapper. What a test wants of ``ASYNC_AFTER`` stands in the environment."""

import json
import os

SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.wsgi.site.urls"
INSTALLED_APPS: list[str] = []
MIDDLEWARE: list[str] = []
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
TIME_ZONE = "UTC"
LOGGING_CONFIG = None  # warnings and worse go to stderr, which a failing test shows
WSGI_APPLICATION = "tests.wsgi.site.wrapped.application"  # runserver's
ASYNC_AFTER = json.loads(os.environ.get("ASYNC_AFTER_TEST_SETTINGS", "{}"))
