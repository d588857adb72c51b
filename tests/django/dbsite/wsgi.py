"""The same under WSGI."""

import os
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.dbsite.settings"

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from async_after.wsgi import AfterResponseMiddleware

from .tables import make_tables

django: Any = get_wsgi_application()
application: Any = AfterResponseMiddleware(django) if settings.IS_WRAPPED else django
make_tables()
