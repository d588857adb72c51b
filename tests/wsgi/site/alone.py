"""Django without the wrapper: its middleware alone, the recorder outside."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.wsgi.site.settings_alone"

from typing import Any

from django.core.wsgi import get_wsgi_application

from ..recorder import Recorder, record_sendfile

django: Any = get_wsgi_application()
record_sendfile()
application = Recorder(django)
