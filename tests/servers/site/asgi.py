"""Django behind the wrapper, with the recorder between it and the server."""

import os
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.servers.site.settings"

from django.core.asgi import get_asgi_application

from async_after.asgi import AfterResponseMiddleware

from ..events import Recorder

# Any: django-stubs' idea of an ASGI message is narrower than ASGI's.
django: Any = get_asgi_application()
application = Recorder(AfterResponseMiddleware(django))
