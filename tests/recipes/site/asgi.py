import os

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.recipes.site.settings"

from typing import Any

from django.core.asgi import get_asgi_application

from async_after.asgi import AfterResponseMiddleware

# Any: django-stubs' idea of an ASGI message is narrower than ASGI's.
django: Any = get_asgi_application()
application = AfterResponseMiddleware(django)
