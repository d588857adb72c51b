"""The ASGI side: watches the messages of an app and runs callbacks after it."""

from .exchange import Message, Receive, Scope, Send
from .middleware import AfterResponseMiddleware, App

__all__ = ["AfterResponseMiddleware", "App", "Message", "Receive", "Scope", "Send"]
