"""The ASGI wrapper, message by message: what became of the response?"""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from async_after import Completion

from .inprocess import (
    Message,
    Receive,
    Scope,
    Send,
    StandIn,
    body,
    length,
    outcome_of,
    sending,
    start,
)

REQUEST: Message = {"type": "http.request", "body": b"", "more_body": False}
DISCONNECT: Message = {"type": "http.disconnect"}


# When is a response complete?


async def test_one_body_message() -> None:
    outcome = await outcome_of(sending(start(201, length(4)), body(b"body")))
    assert outcome.completion is Completion.SENT
    assert (outcome.status, outcome.body_bytes) == (201, 4)
    assert outcome.headers == (("content-length", "4"),)
    assert outcome.is_success


async def test_several_body_messages() -> None:
    outcome = await outcome_of(sending(start(), body(b"a", more=True), body(b"b")))
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, 2)


async def test_body_message_without_a_body() -> None:
    outcome = await outcome_of(sending(start(), {"type": "http.response.body"}))
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, 0)


async def test_trailers_are_the_end_where_they_were_announced() -> None:
    trailers: Message = {"type": "http.response.trailers", "headers": [], "more_trailers": False}
    app = sending(start(trailers=True), body(b"body"), {**trailers, "more_trailers": True})
    assert (await outcome_of(app)).completion is Completion.FAILED
    app = sending(
        start(trailers=True), body(b"body"), {**trailers, "more_trailers": True}, trailers
    )
    outcome = await outcome_of(app)
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, 4)


async def test_content_length_does_not_end_a_response_with_trailers() -> None:
    app = sending(start(200, length(4), trailers=True), body(b"body"))
    assert (await outcome_of(app)).completion is Completion.FAILED


@pytest.mark.parametrize("ending", ["cancelled", "refused"])
async def test_the_last_trailers_are_not_taken(ending: str) -> None:
    stand_in = StandIn()

    async def on_send(message: Message) -> None:
        if message["type"] == "http.response.trailers":
            raise asyncio.CancelledError if ending == "cancelled" else BrokenPipeError

    stand_in.on_send = on_send
    app = sending(start(trailers=True), body(b"x"), {"type": "http.response.trailers"})
    expected = Completion.SENT if ending == "cancelled" else Completion.DISCONNECTED
    assert (await outcome_of(app, stand_in)).completion is expected


async def test_pathsend() -> None:
    outcome = await outcome_of(
        sending(start(200, length(9)), {"type": "http.response.pathsend", "path": "/x"})
    )
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, None)


async def test_zerocopysend() -> None:
    piece: Message = {"type": "http.response.zerocopysend", "file": 0}
    outcome = await outcome_of(sending(start(), {**piece, "more_body": True}))
    assert (outcome.completion, outcome.body_bytes) == (Completion.FAILED, None)
    outcome = await outcome_of(sending(start(), {**piece, "more_body": True}, piece))
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, None)


@pytest.mark.parametrize("disconnected", [True, False])
async def test_content_length_reached_without_a_last_message(disconnected: bool) -> None:
    """granian reports a disconnect there, and Django then stops."""
    stand_in = StandIn()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(start(200, length(4)), body(b"bo", more=True), body(b"dy", more=True))(
            scope, receive, send
        )
        if disconnected:
            stand_in.inbox.put_nowait(DISCONNECT)
            assert await receive() == REQUEST
            assert await receive() == DISCONNECT

    outcome = await outcome_of(app, stand_in)
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, 4)
    assert outcome.is_success


async def test_content_length_not_reached() -> None:
    outcome = await outcome_of(sending(start(200, length(5)), body(b"body", more=True)))
    assert (outcome.completion, outcome.body_bytes) == (Completion.FAILED, 4)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_responses_that_have_no_body(method: str, status: int) -> None:
    """Servers drop what apps send there, and Content-Length speaks of another response."""
    app = sending(start(status, length(4)), body(b"body"))
    outcome = await outcome_of(app, method=method)
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, 0)
    app = sending(start(status, length(0)), body(b"", more=True))
    assert (await outcome_of(app, method=method)).completion is Completion.FAILED


async def test_headers_from_a_generator() -> None:
    """ASGI allows any iterable; each of the two readers gets them all."""

    def headers() -> Iterator[tuple[bytes, bytes]]:
        yield from [*length(2), (b"X-One", b"1")]

    stand_in = StandIn()
    read: list[tuple[bytes, bytes]] = []

    async def on_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            read.extend(message["headers"])

    stand_in.on_send = on_send
    outcome = await outcome_of(sending(start(200, headers()), body(b"ok", more=True)), stand_in)
    assert read == [*length(2), (b"X-One", b"1")]
    assert outcome.headers == (("content-length", "2"), ("x-one", "1"))
    assert outcome.completion is Completion.SENT


async def test_messages_reach_the_server_as_they_are() -> None:
    messages = [
        start(200, length(4), trailers=True),
        {"type": "http.response.push", "path": "/other", "headers": []},
        body(b"body"),
        {"type": "http.response.trailers", "headers": []},
    ]
    stand_in = StandIn()
    await outcome_of(sending(*messages), stand_in)
    assert all(got is given for got, given in zip(stand_in.sent, messages, strict=True))


# Who is to blame if it is not?


async def test_disconnect_before_the_last_message() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(start(), body(b"a", more=True))(scope, receive, send)
        assert await receive() == DISCONNECT

    outcome = await outcome_of(app, StandIn(DISCONNECT))
    assert (outcome.completion, outcome.status) == (Completion.DISCONNECTED, 200)
    assert not outcome.is_success


async def test_disconnect_before_the_last_message_which_is_sent_all_the_same() -> None:
    """Starlette's BaseHTTPMiddleware does that when its stream has been cut."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(start(), body(b"a", more=True))(scope, receive, send)
        assert await receive() == DISCONNECT
        await send(body())

    outcome = await outcome_of(app, StandIn(DISCONNECT))
    assert outcome.completion is Completion.DISCONNECTED
    assert not outcome.is_success


async def test_a_message_refused_after_the_response_was_complete() -> None:
    """All of Content-Length was accepted: what follows cannot change that."""
    stand_in = StandIn()

    async def on_send(message: Message) -> None:
        if message["type"] == "http.response.body" and not message["more_body"]:
            raise ConnectionResetError

    stand_in.on_send = on_send
    outcome = await outcome_of(
        sending(start(200, length(4)), body(b"body", more=True), body()), stand_in
    )
    assert outcome.completion is Completion.SENT


async def test_disconnect_before_the_start() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    outcome = await outcome_of(app, StandIn(DISCONNECT))
    assert (outcome.completion, outcome.status) == (Completion.DISCONNECTED, None)


@pytest.mark.parametrize("ending", ["returns", "cancelled"])
async def test_disconnect_while_the_last_message_is_pending(ending: str) -> None:
    """The trap: servers report a disconnect as soon as they have the last
    message, and frameworks then cancel who is still in ``send``."""
    stand_in = StandIn(DISCONNECT)
    gone = asyncio.Event()

    async def on_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            if ending == "cancelled":
                await asyncio.Event().wait()
            await gone.wait()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sender = asyncio.ensure_future(sending(start(), body(b"body"))(scope, receive, send))
        await asyncio.sleep(0)
        assert await receive() == DISCONNECT
        if ending == "cancelled":
            sender.cancel()
        gone.set()
        with contextlib.suppress(asyncio.CancelledError):
            await sender

    stand_in.on_send = on_send
    outcome = await outcome_of(app, stand_in)
    assert (outcome.completion, outcome.body_bytes) == (Completion.SENT, 4)
    assert outcome.is_success


async def test_cancelled_inside_a_message_that_is_not_the_last() -> None:
    stand_in = StandIn()

    async def on_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise asyncio.CancelledError

    stand_in.on_send = on_send
    outcome = await outcome_of(sending(start(), body(b"body", more=True)), stand_in)
    assert (outcome.completion, outcome.body_bytes) == (Completion.FAILED, 0)


@pytest.mark.parametrize("kind", ["http.response.start", "http.response.body"])
@pytest.mark.parametrize("is_caught", [True, False])
async def test_the_server_refuses_a_message(kind: str, is_caught: bool) -> None:
    stand_in = StandIn()

    async def on_send(message: Message) -> None:
        if message["type"] == kind:
            raise ConnectionResetError

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages = sending(start(), body(b"body"))(scope, receive, send)
        if is_caught:
            with contextlib.suppress(OSError):
                await messages
        else:
            await messages

    stand_in.on_send = on_send
    outcome = await outcome_of(app, stand_in)
    assert outcome.completion is Completion.DISCONNECTED
    assert isinstance(outcome.error, ConnectionResetError) is not is_caught


async def test_the_server_raises_its_own_error_where_the_socket_has_failed() -> None:
    """gunicorn's HTTP/2: HTTP2ConnectionError, which is no OSError."""
    stand_in = StandIn()

    async def on_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            try:
                raise ConnectionResetError
            except OSError as error:
                raise LookupError(f"Socket write error: {error}")  # noqa: B904 (as gunicorn does)

    stand_in.on_send = on_send
    outcome = await outcome_of(sending(start(), body(b"body")), stand_in)
    assert outcome.completion is Completion.DISCONNECTED
    assert isinstance(outcome.error, LookupError)


async def test_an_app_that_handles_an_oserror_of_its_own_and_sends_too_much() -> None:
    stand_in = StandIn()

    async def on_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise LookupError("the server has no place for this")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            raise FileNotFoundError
        except OSError:
            await send(body(b"no such file"))

    stand_in.on_send = on_send
    outcome = await outcome_of(app, stand_in)
    assert outcome.completion is Completion.FAILED
    assert isinstance(outcome.error, LookupError)


@pytest.mark.parametrize(
    ("messages", "completion", "status"),
    [
        ([], Completion.FAILED, None),
        ([start()], Completion.FAILED, 200),
        ([start(), body(b"a", more=True)], Completion.FAILED, 200),
        ([start(), body(b"a")], Completion.SENT, 200),
    ],
)
@pytest.mark.parametrize("raises", [True, False])
async def test_the_app_ends_early(
    messages: list[Message], completion: Completion, status: int | None, raises: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await sending(*messages)(scope, receive, send)
        if raises:
            raise ValueError("from the app")

    outcome = await outcome_of(app)
    assert (outcome.completion, outcome.status) == (completion, status)
    assert isinstance(outcome.error, ValueError) is raises
    assert outcome.is_success is (completion is Completion.SENT and not raises)
