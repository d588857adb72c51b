from .settings import *  # noqa: F403
from .settings import MIDDLEWARE

MIDDLEWARE = ["async_after.django.AfterResponseMiddleware", *MIDDLEWARE]
