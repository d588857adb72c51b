"""The WSGI side: watches the response of an app and runs callbacks after it."""

from .environ import Environ, StartResponse
from .middleware import AfterResponseMiddleware, App
from .sigterm import drain_on_sigterm

__all__ = ["AfterResponseMiddleware", "App", "Environ", "StartResponse", "drain_on_sigterm"]
