"""The wrapper that ours is measured against."""

from contextvars import ContextVar

from async_after.asgi import App, Message, Receive, Scope, Send

_variable: ContextVar[object] = ContextVar("bench.nothing", default=None)


def do_nothing(app: App) -> App:
    """The least that any wrapper of this kind must do."""

    async def wrapper(scope: Scope, receive: Receive, send: Send) -> None:
        async def wrapped_receive() -> Message:
            return await receive()

        async def wrapped_send(message: Message) -> None:
            await send(message)

        token = _variable.set(scope)
        try:
            await app(scope, wrapped_receive, wrapped_send)
        finally:
            _variable.reset(token)

    return wrapper
