"""Django behind the WSGI wrapper, for a server to import."""

import os
from typing import Any

from django.core.wsgi import get_wsgi_application

from async_after.wsgi import AfterResponseMiddleware

from . import apps  # noqa: F401  configures Django
from .wsgi_latency import LANE

lane: Any = os.environ.get(LANE)
application = AfterResponseMiddleware(get_wsgi_application(), lane=lane)
