import os
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.finished.settings"

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from async_after.wsgi import AfterResponseMiddleware

application: Any = get_wsgi_application()
if settings.IS_WRAPPED:
    application = AfterResponseMiddleware(application)
