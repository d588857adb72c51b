import os
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.everywhere.settings"

from django.conf import settings
from django.core.asgi import get_asgi_application

from async_after.asgi import AfterResponseMiddleware

# Any: django-stubs' idea of an ASGI message is narrower than ASGI's.
application: Any = get_asgi_application()
if settings.IS_WRAPPED:
    application = AfterResponseMiddleware(application)
