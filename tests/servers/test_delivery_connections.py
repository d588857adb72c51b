"""What uvicorn's connection shows, in cases that no timing decides."""

import asyncio
import gc
import shutil
import socket
import ssl
import subprocess
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from async_after import Completion, after_response
from async_after._core.delivery import Delivery, probes

from .delivery.here import DEADLINE, Here, page
from .delivery.peer import Peer, request
from .events import Receive, Send
from .launch import HOST

NewLoop = Callable[[], asyncio.AbstractEventLoop]

FINAL = (Delivery.HANDED, False)
SMALL = page(b"small")
BIG = b"x" * 300_000
"""What the kernel takes at once, and a small receive buffer does not."""
LOOPS = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


def served(test: Callable[[Here], Awaitable[None]]) -> Any:
    """With both HTTP implementations, on both event loops."""

    @LOOPS
    @pytest.mark.parametrize("http", ["httptools", "h11"])
    def wrapped(new_loop: NewLoop, http: str) -> None:
        on(new_loop, Here(http), test)

    wrapped.__doc__ = test.__doc__
    return wrapped


@served
async def test_acknowledged_by_a_kernel_whose_program_reads_nothing(here: Here) -> None:
    here.pages["/a"] = SMALL
    with Peer(here.port) as peer:
        peer.ask("/a")
        outcome = await here.outcome("/a")
        assert await outcome.wait_delivered("acknowledged", 5) is Delivery.ACKNOWLEDGED
        assert peer.received() > 0


@served
async def test_a_later_response_hides_an_earlier_one(here: Here) -> None:
    here.pages |= {"/a": page(BIG), "/b": SMALL}
    with Peer(here.port, 4096) as peer:
        peer.ask("/a")
        first = await here.outcome("/a")
        assert first.delivery is Delivery.FLUSHED
        assert first.connection is not None
        assert first.connection.look() == (Delivery.FLUSHED, True)
        peer.ask("/b")
        second = await here.outcome("/b")
        assert first.connection.look() == FINAL
        assert await first.wait_delivered("acknowledged", 5) is Delivery.FLUSHED
        await asyncio.to_thread(peer.read_response)
        await asyncio.to_thread(peer.read_response)
        assert first.connection.look() == FINAL
        assert await second.wait_delivered("acknowledged", 5) is Delivery.ACKNOWLEDGED


@served
async def test_pipelined_requests(here: Here) -> None:
    """The bytes of the second response may be there before the first one is sealed."""
    here.pages |= {"/a": SMALL, "/b": SMALL}
    with Peer(here.port) as peer:
        peer.ask_all("/a", "/b")
        first, second = await here.outcome("/a"), await here.outcome("/b")
        assert first.delivery is await first.wait_delivered("flushed") is Delivery.HANDED
        assert await second.wait_delivered("acknowledged", 5) is Delivery.ACKNOWLEDGED


@served
async def test_sealed_when_a_later_response_is_through(here: Here) -> None:
    answered = asyncio.Event()

    async def lingers(receive: Receive, send: Send) -> None:
        await SMALL(receive, send)
        await answered.wait()

    here.pages |= {"/a": lingers, "/b": SMALL}
    with Peer(here.port) as peer:
        for path in ("/a", "/b"):
            peer.ask(path)
            await asyncio.to_thread(peer.read_response)
        await here.outcome("/b")
        answered.set()
        first = await here.outcome("/a")
        assert first.completion is Completion.SENT
        # What was known when it was sent; nothing else can be told any more.
        told = {Delivery.HANDED, Delivery.ACKNOWLEDGED}
        assert first.delivery is await first.wait_delivered("flushed")
        assert first.delivery in told


@served
async def test_what_a_closing_transport_drops(here: Here) -> None:
    """The client half-closes; uvicorn closes its transport, and hears of that one step
    of the loop later. What the app sends in between is dropped, though the socket is
    open, and nothing in it is unacknowledged."""
    seen: list[bool] = []

    async def in_between(receive: Receive, send: Send) -> None:
        cycle = here.cycles["/b"]
        peer.half_close()
        while not cycle.transport.is_closing():
            await asyncio.sleep(0)
        seen.append(cycle.disconnected)
        await SMALL(receive, send)

    here.pages |= {"/a": SMALL, "/b": in_between}
    with Peer(here.port) as peer:
        peer.ask("/a")
        size = await asyncio.to_thread(peer.read_response)
        peer.ask("/b")
        outcome = await here.outcome("/b")
        assert seen == [False], "the app did not go on at the moment that is tested"
        assert outcome.delivery is await outcome.wait_delivered("flushed", 5) is Delivery.HANDED
        await asyncio.to_thread(peer.until_eof)
        assert peer.total == size


@served
async def test_a_client_that_left_before_the_response(here: Here) -> None:
    """The app never asks: only uvicorn knows."""

    async def late(receive: Receive, send: Send) -> None:
        peer.reset()
        await here.until(lambda: here.cycles["/a"].disconnected)
        await SMALL(receive, send)

    here.pages["/a"] = late
    peer = Peer(here.port)
    peer.ask("/a")
    outcome = await here.outcome("/a")
    assert (outcome.delivery, outcome.completion) == (Delivery.NONE, Completion.DISCONNECTED)
    assert await outcome.wait_delivered("handed") is Delivery.NONE


@served
async def test_a_client_that_had_all_bytes_before_the_last_message(here: Here) -> None:
    """Content-Length told it where the body ends; the last message is empty."""

    async def leave(receive: Receive, send: Send) -> None:
        await asyncio.to_thread(peer.read_response)
        peer.close()
        await here.until(lambda: here.cycles["/a"].disconnected)

    here.pages["/a"] = page(b"all", b"", before_last=leave)
    peer = Peer(here.port)
    peer.ask("/a")
    outcome = await here.outcome("/a")
    assert (outcome.delivery, outcome.completion) == (Delivery.HANDED, Completion.SENT)


@served
async def test_a_client_that_left_in_the_middle(here: Here) -> None:
    """h11 forgets how much of Content-Length it has written: that is HANDED then."""

    async def leave(receive: Receive, send: Send) -> None:
        peer.reset()
        await here.until(lambda: here.cycles[path].disconnected)

    here.pages["/length"] = page(b"first", b"last", before_last=leave)
    here.pages["/chunked"] = page(b"all", b"", chunked=True, before_last=leave)
    for path in here.pages:
        peer = Peer(here.port)
        peer.ask(path)
        outcome = await here.outcome(path)
        is_told = not hasattr(here.cycles[path], "conn")
        assert outcome.delivery is (Delivery.NONE if is_told else Delivery.HANDED)
        assert outcome.completion is (Completion.DISCONNECTED if is_told else Completion.SENT)


@served
async def test_the_descriptor_of_another_connection(here: Here) -> None:
    """The connection is closed, and the next one gets its number."""
    here.pages |= {"/a": page(BIG), "/b": SMALL}
    peer = Peer(here.port, 4096)
    peer.ask("/a")
    outcome = await here.outcome("/a")
    before = here.cycles["/a"].transport.get_extra_info("socket")
    descriptor = before.fileno()
    held = socket.socket()  # the next one of the client's
    peer.reset()
    await here.until(lambda: before.fileno() == -1)
    with held, Peer(here.port) as other:
        other.ask("/b")
        await here.outcome("/b")
        numbers = {other.fileno(), here.cycles["/b"].transport.get_extra_info("socket").fileno()}
        assert descriptor in numbers, "no other socket has got that number"
        assert outcome.connection is not None
        assert outcome.connection.look() == FINAL
        assert await outcome.wait_delivered("acknowledged", 5) is Delivery.FLUSHED


@served
async def test_an_outcome_keeps_no_transport(here: Here) -> None:
    here.pages["/a"] = page(BIG)
    with Peer(here.port, 4096) as peer:
        peer.ask("/a")
        outcome = await here.outcome("/a")
        transport = weakref.ref(here.cycles.pop("/a").transport)
        peer.leave()

        def is_gone() -> bool:
            gc.collect()
            return transport() is None

        await here.until(is_gone)
    assert outcome.connection is not None
    assert outcome.connection.look() == FINAL


def on(new_loop: NewLoop, here: Here, test: Callable[[Here], Awaitable[None]]) -> None:
    async def run() -> None:
        async with here:
            await test(here)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


@LOOPS
def test_a_unix_socket_tells_of_the_process_only(new_loop: NewLoop, tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def test(here: Here) -> None:
        here.pages |= {"/small": SMALL, "/big": page(BIG * 10), "/gone": page(BIG * 10)}
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(DEADLINE)
            client.connect(str(path))
            client.sendall(request("/small"))
            small = await here.outcome("/small")
            assert small.delivery is Delivery.FLUSHED
            assert await small.wait_delivered("acknowledged", 5) is Delivery.FLUSHED
            await asyncio.to_thread(_until, client, b"small")
            client.sendall(request("/big"))
            big = await here.outcome("/big")
            assert big.delivery is Delivery.HANDED
            assert await big.wait_delivered("flushed", 0.05) is Delivery.HANDED
            # Another thread sees the buffer while the loop changes it.
            assert big.connection is not None
            assert await asyncio.to_thread(big.connection.look) == (Delivery.HANDED, True)
            await asyncio.to_thread(_until, client, b"x" * 10, len(BIG) * 10)
            assert await big.wait_delivered("flushed", 5) is Delivery.FLUSHED
            client.sendall(request("/gone"))
            gone = await here.outcome("/gone")
        assert await gone.wait_delivered("flushed", 5) is Delivery.HANDED

    on(new_loop, Here(path=path), test)


def _until(client: socket.socket, end: bytes, size: int = 0) -> None:
    """Read at least so many bytes, up to ``end``."""
    last = b""
    while size > 0 or not last.endswith(end):
        data = client.recv(65_536)
        assert data, "the connection ended early"
        last = last[-len(end) :] + data
        size -= len(data)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@LOOPS
def test_tls_has_a_buffer_of_its_own(new_loop: NewLoop, tmp_path: Path) -> None:
    async def test(here: Here) -> None:
        here.pages["/a"] = SMALL
        reader, writer = await asyncio.open_connection(HOST, here.port, ssl=client_tls)
        writer.write(request("/a"))
        outcome = await here.outcome("/a")
        assert outcome.delivery is await outcome.wait_delivered("flushed", 5) is Delivery.HANDED
        assert await reader.readuntil(b"small")
        writer.close()
        await writer.wait_closed()

    certificate = tmp_path / "certificate"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=test"),
            *("-addext", f"subjectAltName=IP:{HOST}"),
            *("-keyout", str(tmp_path / "key"), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(certificate, tmp_path / "key")
    client_tls = ssl.create_default_context(cafile=certificate)
    on(new_loop, Here(tls=server_tls), test)


def test_a_probe_that_fails_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has changed: nothing is where it was."""

    def fails(send: object) -> None:
        raise AttributeError("no such thing in this version")

    async def test(here: Here) -> None:
        here.pages["/a"] = SMALL
        with Peer(here.port) as peer:
            peer.ask("/a")
            assert await asyncio.to_thread(peer.read_response)
            outcome = await here.outcome("/a")
            assert (outcome.delivery, outcome.completion) == (Delivery.HANDED, Completion.SENT)

    monkeypatch.setattr(probes, "_OF_SEND", dict.fromkeys(probes._OF_SEND, fails))
    on(asyncio.new_event_loop, Here(), test)


def test_no_probe_is_looked_for_unless_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for: list[object] = []

    async def test(here: Here) -> None:
        ran = asyncio.Event()

        async def callback() -> None:
            ran.set()

        async def registers(receive: Receive, send: Send) -> None:
            after_response(callback)
            await SMALL(receive, send)

        async def asks(receive: Receive, send: Send) -> None:
            after_response.using(when="success")(callback)
            await SMALL(receive, send)

        here.pages |= {"/none": SMALL, "/registers": registers, "/asks": asks}
        with Peer(here.port) as peer:
            for path, expected in (("/none", 0), ("/registers", 0), ("/asks", 1)):
                ran.clear()
                peer.ask(path)
                await asyncio.to_thread(peer.read_response)
                if path != "/none":
                    await asyncio.wait_for(ran.wait(), DEADLINE)
                assert len(looked_for) == expected, path

    monkeypatch.setattr(probes, "of_send", looked_for.append)
    on(asyncio.new_event_loop, Here(asks=False), test)
