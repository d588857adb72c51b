import logging
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application

from async_after.asgi import AfterResponseMiddleware

logger = logging.getLogger("asgi_demo")


class ShowLastMessage:
    """Between the server and async_after: says when the server took the last message."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def watched(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                logger.info("response   %s %s has been sent", scope["method"], scope["path"])

        await self.app(scope, receive, watched if scope["type"] == "http" else send)


application = ShowLastMessage(AfterResponseMiddleware(get_asgi_application()))
