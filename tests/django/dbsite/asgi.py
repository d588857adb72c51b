"""Django behind the wrapper, or with its middleware alone."""

import os
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.dbsite.settings"

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.db import connections

from async_after.asgi import AfterResponseMiddleware

# Any: django-stubs' idea of an ASGI message is narrower than ASGI's.
django: Any = get_asgi_application()
application = AfterResponseMiddleware(django) if settings.IS_WRAPPED else django

call_command("migrate", run_syncdb=True, verbosity=0)
connections.close_all()
