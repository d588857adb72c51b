"""The WSGI side: watches the response of an app and runs callbacks after it."""

# What is imported ``as`` itself is for ``async_after.django`` alone, and not public.
from .dispatch import lane_of as lane_of
from .ending import Ending as Ending
from .environ import Environ, StartResponse
from .environ import WsgiExchange as WsgiExchange
from .middleware import AfterResponseMiddleware, App
from .sigterm import drain_on_sigterm

__all__ = ["AfterResponseMiddleware", "App", "Environ", "StartResponse", "drain_on_sigterm"]
