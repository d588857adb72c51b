"""The promises of the exchange, one plain example each: what fails here is easy to read.

``test_exchange_machine`` tries all orders of events.
"""

from collections.abc import Callable
from typing import Any

import pytest

from async_after import Callback, CallbackState, Completion
from async_after._core.exchange import Exchange, Options

from ..conftest import RecordingHost, records


def added(exchange: Exchange, **options: Any) -> Callback[Any]:
    callback: Callback[Any] = Callback(exchange, "name", Options(**options), False, (print, (), {}))
    exchange.add(callback)
    return callback


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost()


@pytest.fixture
def exchange(host: RecordingHost) -> Exchange:
    return Exchange(host, "GET", "/x")


def test_never_before(exchange: Exchange, host: RecordingHost) -> None:
    single = added(exchange, concurrent=True)
    added(exchange)
    exchange.start(200, ())
    exchange.body(3, completes=exchange.offer(3, last=True))
    assert exchange.is_complete
    assert exchange.claim() == []
    assert host.dispatched == 0
    assert exchange.end()
    assert exchange.claim() == [single, None]
    assert exchange.claim() == []


def test_once_or_accounted(exchange: Exchange, host: RecordingHost) -> None:
    callbacks = [added(exchange) for _ in range(100)]
    for callback in callbacks[:90]:
        assert callback.cancel()
    exchange.end()
    assert exchange.claim() == [None]
    run = []
    while (callback_ := exchange.next()) is not None:
        run.append(callback_)
        exchange.settle(callback_, CallbackState.SUCCEEDED)
    assert run == callbacks[90:]
    assert host.ended == callbacks
    assert not host.is_busy


def test_in_order(exchange: Exchange) -> None:
    first, second = added(exchange), added(exchange)
    exchange.end()
    assert exchange.claim() == [None]
    assert exchange.next() is first
    nested = added(exchange)
    exchange.settle(first, CallbackState.SUCCEEDED)
    assert exchange.next() is second
    exchange.settle(second, CallbackState.SUCCEEDED)
    assert exchange.next() is nested


def test_late(exchange: Exchange, host: RecordingHost) -> None:
    assert not exchange.end()
    late = added(exchange)
    assert host.dispatched == 1
    assert exchange.claim() == [None]
    assert exchange.next() is late


@pytest.mark.parametrize("callbacks", [0, 1])
def test_sealed(exchange: Exchange, callbacks: int) -> None:
    """Neither the adapter nor the app can change the outcome after the end."""
    for _ in range(callbacks):
        added(exchange)
    exchange.start(200, ((b"A", b"b"),))
    exchange.end()
    exchange.disconnect()
    exchange.refuse(OSError())
    exchange.body(7, completes=exchange.offer(7, last=True))
    exchange.complete()
    assert not exchange.end(ValueError())
    outcome = exchange.outcome
    assert outcome is not None
    assert (outcome.completion, outcome.body_bytes, outcome.error, outcome.headers) == (
        Completion.FAILED,
        0,
        None,
        (("a", "b"),),
    )
    assert exchange.outcome is exchange.sealed is outcome
    with pytest.raises(AttributeError):
        outcome.status = 500  # type: ignore[misc]


@pytest.mark.parametrize("header", [(b"a", 5.5), (b"a",), None, ("\udc80", object())])
@pytest.mark.parametrize("asks_at", ["before", "late"])
def test_sealed_without_headers_that_cannot_be_read(
    exchange: Exchange, caplog: pytest.LogCaptureFixture, asks_at: str, header: Any
) -> None:
    """They are no reason to lose a callback: the outcome has none, and the log says so."""
    early = [added(exchange, takes_outcome=True)] if asks_at == "before" else []
    exchange.start(200, [header])
    exchange.body(0, completes=True)
    exchange.end()
    late = [added(exchange, takes_outcome=True), added(exchange)]
    for callback in early + late:
        assert exchange.next() is callback
    outcome = exchange.sealed
    assert (outcome.completion, outcome.status, outcome.headers) == (Completion.SENT, 200, ())
    assert [record.getMessage() for record in records(caplog)] == [
        "the outcome of GET /x (200) has to do without headers"
    ]


def test_discreet(exchange: Exchange) -> None:
    """Method and path only, and nothing is kept of request and response after the end."""
    exchange.request = exchange.response = object()
    exchange.start(200, [(b"set-cookie", b"secret")])
    exchange.end(ValueError("secret"))
    assert exchange.request is exchange.response is None
    assert exchange.label() == "GET /x (200)"
    assert "secret" not in repr(exchange.outcome) + repr(exchange) + exchange.label()


def test_cancelled_ones_do_not_pile_up(exchange: Exchange) -> None:
    """A key registered again and again keeps one callback, not a list of dead ones."""
    for _ in range(1000):
        added(exchange, key="k")
        added(exchange, key="c", concurrent=True)
    queue = exchange._queue
    assert queue is not None
    assert len(queue.sequential) + len(queue.claims) < 200
    exchange.end()
    assert len([claim for claim in exchange.claim() if claim is None or not claim.done()]) == 2


def test_a_key_replaces_only_what_has_not_started(exchange: Exchange, host: RecordingHost) -> None:
    first, between = added(exchange, key="k"), added(exchange)
    second = added(exchange, key="k")
    assert first.state is CallbackState.CANCELLED
    exchange.end()
    exchange.claim()
    assert exchange.next() is between
    exchange.settle(between, CallbackState.SUCCEEDED)
    assert exchange.next() is second, "the successor joins the end"
    third = added(exchange, key="k")
    assert second.state is CallbackState.RUNNING
    exchange.settle(second, CallbackState.SUCCEEDED)
    assert exchange.next() is third
    assert host.ended == [first, between, second]


Act = Callable[[Exchange], object]


def starts(length: int | None = None, *, status: int = 200, trailers: bool = False) -> Act:
    headers = () if length is None else ((b"content-length", b"%d" % length),)
    return lambda exchange: exchange.start(status, headers, trailers=trailers)


def sends(size: int, *, last: bool, meanwhile: bool = False, fate: str = "accepted") -> Act:
    def send(exchange: Exchange) -> None:
        completes = exchange.offer(size, last=last)
        if meanwhile:
            exchange.disconnect()
        if fate == "refused":
            exchange.refuse(OSError())
        elif fate == "accepted":
            exchange.body(size, completes=completes)

    return send


SENT, DISCONNECTED, FAILED = Completion.SENT, Completion.DISCONNECTED, Completion.FAILED


@pytest.mark.parametrize(
    ("acts", "method", "completion", "body_bytes"),
    [
        ([], "GET", FAILED, 0),
        ([Exchange.disconnect], "GET", DISCONNECTED, 0),
        ([starts()], "GET", FAILED, 0),
        ([starts(), sends(3, last=False)], "GET", FAILED, 3),
        ([starts(), sends(3, last=True)], "GET", SENT, 3),
        ([starts(), sends(3, last=True), Exchange.disconnect], "GET", SENT, 3),
        ([starts(), Exchange.disconnect, sends(3, last=False)], "GET", DISCONNECTED, 3),
        # A server may accept, and discard, what comes after the client has left.
        ([starts(), Exchange.disconnect, sends(3, last=True)], "GET", DISCONNECTED, 3),
        ([starts(3), Exchange.disconnect, sends(3, last=False)], "GET", DISCONNECTED, 3),
        (
            [starts(), sends(3, last=True), lambda exchange: exchange.refuse(OSError())],
            "GET",
            SENT,
            3,
        ),
        # A disconnect says nothing once the server has the last message in hand.
        ([starts(), sends(3, last=True, meanwhile=True)], "GET", SENT, 3),
        ([starts(), sends(3, last=True, meanwhile=True, fate="broken")], "GET", FAILED, 0),
        ([starts(), sends(3, last=False, meanwhile=True)], "GET", DISCONNECTED, 3),
        ([starts(), sends(3, last=True, fate="refused")], "GET", DISCONNECTED, 0),
        # All bytes of Content-Length (promise 1), also where only the start was sent.
        ([starts(5), sends(5, last=False), Exchange.disconnect], "GET", SENT, 5),
        ([starts(5), sends(2, last=False), sends(3, last=False)], "GET", SENT, 5),
        ([starts(5), sends(2, last=False), Exchange.disconnect], "GET", DISCONNECTED, 2),
        ([starts(5), sends(2, last=False)], "GET", FAILED, 2),
        ([starts(0)], "GET", SENT, 0),
        ([starts(0), Exchange.disconnect], "GET", DISCONNECTED, 0),
        # No body is announced by the Content-Length of these.
        ([starts(5), sends(5, last=False)], "HEAD", FAILED, 0),
        ([starts(0, status=304)], "GET", FAILED, 0),
        ([starts(5, status=204), sends(0, last=True)], "GET", SENT, 0),
        ([starts(5), sends(0, last=True)], "HEAD", SENT, 0),
        # With trailers announced the last body message is not the last one.
        ([starts(3, trailers=True), sends(3, last=True)], "GET", FAILED, 3),
        ([starts(trailers=True), sends(3, last=True), Exchange.complete], "GET", SENT, 3),
        (
            [starts(trailers=True), sends(3, last=True), Exchange.disconnect],
            "GET",
            DISCONNECTED,
            3,
        ),
    ],
)
def test_completion(
    host: RecordingHost, acts: list[Act], method: str, completion: Completion, body_bytes: int
) -> None:
    exchange = Exchange(host, method, "/x")
    for act in acts:
        act(exchange)
    exchange.end()
    outcome = exchange.outcome
    assert outcome is not None
    assert (outcome.completion, outcome.body_bytes) == (completion, body_bytes)


def test_body_of_unknown_size(exchange: Exchange) -> None:
    """pathsend: the server reads the file itself."""
    exchange.start(200, ((b"content-length", b"5"),))
    exchange.body(None, completes=exchange.offer(0, last=True))
    exchange.end()
    assert exchange.sealed.completion is SENT
    assert exchange.sealed.body_bytes is None
    assert exchange.sealed.time_to_first_byte is not None
