"""A project of ``response_finished`` and ``then``, for real servers."""

import os

VARIABLE = "ASYNC_AFTER_FINISHED"
"""``wrapped``: asgi.py and wsgi.py wrap the application too."""
IS_WRAPPED = {"wrapped": True, "alone": False}[os.environ[VARIABLE]]

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.django.finished.urls"
INSTALLED_APPS = ["async_after", "rest_framework"]
MIDDLEWARE = ["async_after.django.AfterResponseMiddleware"]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "UNAUTHENTICATED_USER": None,
}
USE_TZ = True
LOGGING_CONFIG = None  # warnings and worse go to stderr, which a failing test shows
