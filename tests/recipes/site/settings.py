"""A project of all recipes, as their docstrings tell to paste them."""

import os
from pathlib import Path

import django

from tests.recipes.site.instrument import Ends

DIRECTORY = Path(os.environ["ASYNC_AFTER_RECIPES"])

SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.recipes.site.urls"
INSTALLED_APPS = ["async_after", "asgi_demo", "asgi_demo.recipes"]
MIDDLEWARE = [
    "async_after.django.AfterResponseMiddleware",
    "asgi_demo.recipes.server_timing.server_timing",
    "asgi_demo.recipes.error_mail.MailErrorsMiddleware",
    "asgi_demo.recipes.view_timing.view_timing",
]
ASYNC_AFTER = {"INSTRUMENTS": [Ends()]}
# One file for all servers.
POST_LOG = DIRECTORY.parent / "posts.jsonl"
USE_TZ = True
TIME_ZONE = "UTC"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIRECTORY / "database.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
_BACKEND = "tests.recipes.site.mail.EmailBackend"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": _BACKEND, "OPTIONS": {"file_path": DIRECTORY / "mails"}}}
else:
    EMAIL_BACKEND = _BACKEND
    EMAIL_FILE_PATH = DIRECTORY / "mails"
# Pairs are deprecated since Django 6.0, which brings the addresses.
_ADDRESS = "admin@example.com"
ADMINS = MANAGERS = [_ADDRESS if django.VERSION >= (6, 0) else ("Admin", _ADDRESS)]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "stderr": {"class": "logging.StreamHandler"},
        "file": {
            "class": "logging.FileHandler",
            "filename": DIRECTORY / "log",
            "formatter": "plain",
        },
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "asgi_demo.recipes": {"handlers": ["file"], "level": "INFO", "propagate": False},
        # Django's own mails of errors (AdminEmailHandler) would come on top.
        "django": {"handlers": []},
    },
}
