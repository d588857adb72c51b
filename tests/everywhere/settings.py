"""One project for all set-ups. Only the line of the middleware differs (``VARIABLE``)."""

import os

from .setups import DATABASE, LIMIT, PENDING_LIMIT, VARIABLE

IS_WRAPPED = {"wrapped": True, "middleware": False}[os.environ[VARIABLE]]

SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
ROOT_URLCONF = "tests.everywhere.urls"
INSTALLED_APPS = ["async_after", "tests.everywhere"]
MIDDLEWARE = [
    *([] if IS_WRAPPED else ["async_after.django.AfterResponseMiddleware"]),
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "tests.everywhere.serving.name_user",
]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
LOGGING_CONFIG = None  # warnings and worse go to stderr
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ[DATABASE],
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ASYNC_AFTER = {"LIMIT": LIMIT, "PENDING_LIMIT": PENDING_LIMIT, "OVERFLOW": "drop"}
