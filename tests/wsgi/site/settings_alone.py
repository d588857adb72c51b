from .settings import *  # noqa: F403

MIDDLEWARE = ["async_after.django.AfterResponseMiddleware"]
WSGI_APPLICATION = "tests.wsgi.site.alone.application"
