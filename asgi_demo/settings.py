import os
import secrets
from pathlib import Path

_DIRECTORY = Path(os.environ["ASGI_DEMO_DIRECTORY"])

SECRET_KEY = secrets.token_urlsafe()
DEBUG = True
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
ROOT_URLCONF = "asgi_demo.urls"
TIME_ZONE = "UTC"
USE_TZ = True
INSTALLED_APPS = ["async_after", "asgi_demo"]
# With the ASGI wrapper (asgi.py) no middleware is needed.
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _DIRECTORY / "demo.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = _DIRECTORY / "mails"
LOGGING_CONFIG = None  # __main__ has set logging up
