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
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = f"{scope['method']} {scope['path']}"
        is_sent = False

        async def watched(message: Any) -> None:
            nonlocal is_sent
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                is_sent = True
                logger.info("response   %s has been sent", request)

        await self.app(scope, receive, watched)
        if not is_sent:
            logger.info("response   %s was cut off", request)


application = ShowLastMessage(AfterResponseMiddleware(get_asgi_application()))
