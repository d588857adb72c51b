"""Django behind the wrapper, with the recorder between it and the server."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.wsgi.site.settings"

from collections.abc import Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

from async_after.wsgi import AfterResponseMiddleware

from ...servers.events import ident_of
from ...servers.work import Wanted
from ..recorder import Recorder, record_sendfile

django: Any = get_wsgi_application()


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Django never lets an error reach the server; this path does."""
    path = environ["PATH_INFO"]
    if path.startswith("/app-raises/"):
        Wanted.by(ident_of(path), {"kind": "sync"}).register()
        raise RuntimeError("this app always raises")
    body: Iterable[bytes] = django(environ, start_response)
    return body


record_sendfile()
application = Recorder(AfterResponseMiddleware(app))
