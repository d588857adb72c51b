"""Stands in for a server, in the test's own process: what it gets is recorded,
what it does at each message is the test's choice."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from async_after import Outcome, Runner
from async_after.asgi import AfterResponseMiddleware

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

DEADLINE = 10.0


def http_scope(method: str = "GET", path: str = "/page") -> Scope:
    return {"type": "http", "method": method, "path": path, "headers": [], "query_string": b""}


def start(
    status: int = 200, headers: Iterable[tuple[bytes, bytes]] = (), **more: object
) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers, **more}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def length(number: int) -> list[tuple[bytes, bytes]]:
    return [(b"Content-Length", str(number).encode())]


def sending(*messages: Message) -> App:
    """An app that sends these messages and returns."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


class StandIn:
    """``receive`` gives what is in ``inbox``, ``send`` keeps the message and
    then does what ``on_send`` says."""

    def __init__(self, *messages: Message) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        for message in messages or ({"type": "http.request", "body": b"", "more_body": False},):
            self.inbox.put_nowait(message)
        self.sent: list[Message] = []
        self.on_send: Callable[[Message], Awaitable[None]] | None = None

    async def receive(self) -> Message:
        return await self.inbox.get()

    async def send(self, message: Message) -> None:
        if self.on_send is not None:
            await self.on_send(message)
        self.sent.append(message)

    async def call(self, app: App, scope: Scope | None = None) -> None:
        async with asyncio.timeout(DEADLINE):
            await app(http_scope() if scope is None else scope, self.receive, self.send)


class Seen:
    """A callback for ``callbacks=``: the outcomes it was given."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self._another = asyncio.Event()

    async def __call__(self, outcome: Outcome) -> None:
        await asyncio.sleep(0)  # really suspends
        self.outcomes.append(outcome)
        self._another.set()

    async def one(self) -> Outcome:
        """The only outcome, as soon as it is there."""
        await until(self._another)
        (outcome,) = self.outcomes
        return outcome


async def until(event: asyncio.Event) -> None:
    async with asyncio.timeout(DEADLINE):
        await event.wait()


async def outcome_of(
    app: App, stand_in: StandIn | None = None, *, method: str = "GET", hold: bool | None = None
) -> Outcome:
    """Call the wrapped app once; what its callback was told. Whatever leaves
    the app is expected to be in ``Outcome.error``."""
    runner, seen = Runner(), Seen()
    wrapped = AfterResponseMiddleware(app, runner=runner, callbacks=[seen], hold=hold)
    raised: BaseException | None = None
    try:
        await (stand_in or StandIn()).call(wrapped, http_scope(method))
    except (Exception, asyncio.CancelledError) as error:
        raised = error
    outcome = await seen.one()
    assert outcome.error is raised
    await runner.drain(DEADLINE)
    await runner.aclose()
    return outcome


class Lifespan:
    """The server's side of a lifespan."""

    def __init__(self, app: App) -> None:
        self.stand_in = StandIn({"type": "lifespan.startup"})
        self.task = asyncio.ensure_future(
            app({"type": "lifespan"}, self.stand_in.receive, self.send)
        )
        self._answers: asyncio.Queue[Message | None] = asyncio.Queue()
        # However the app ends, nobody waits for an answer any more.
        self.task.add_done_callback(lambda _: self._answers.put_nowait(None))

    async def send(self, message: Message) -> None:
        self._answers.put_nowait(message)

    async def answer(self) -> str | None:
        async with asyncio.timeout(DEADLINE):
            message = await self._answers.get()
        return None if message is None else message["type"]

    async def startup(self) -> str | None:
        return await self.answer()

    async def shutdown(self) -> str | None:
        self.stand_in.inbox.put_nowait({"type": "lifespan.shutdown"})
        return await self.answer()

    async def end(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self.task
