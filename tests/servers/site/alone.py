"""Django without the wrapper: its middleware alone, the recorder outside."""

import os
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.servers.site.settings_alone"

from django.core.asgi import get_asgi_application

from ..events import Recorder

# Any: django-stubs' idea of an ASGI message is narrower than ASGI's.
django: Any = get_asgi_application()
application = Recorder(django)
