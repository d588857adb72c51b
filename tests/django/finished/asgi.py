import os
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.finished.settings"

from django.conf import settings
from django.core.asgi import get_asgi_application

from async_after.asgi import AfterResponseMiddleware

application: Any = get_asgi_application()
if settings.IS_WRAPPED:
    application = AfterResponseMiddleware(application)
