"""Django behind the wrapper, or with its middleware alone."""

import os
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.dbsite.settings"

from django.conf import settings
from django.core.asgi import get_asgi_application

from async_after.asgi import AfterResponseMiddleware

from .tables import make_tables

# Any: django-stubs' idea of an ASGI message is narrower than ASGI's.
django: Any = get_asgi_application()
application = AfterResponseMiddleware(django) if settings.IS_WRAPPED else django
make_tables()
