"""A response that says what cannot be read: its outcome does without, and all callbacks run."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from async_after import Callback, Outcome, Runner, after_response
from async_after.asgi import AfterResponseMiddleware
from async_after.wsgi import AfterResponseMiddleware as WsgiMiddleware

from ..conftest import DEADLINE, MakeRunner, loop_exchange, responding, thread_exchange
from ..ways import check_at_rest


def raises(*args: Any, **kwargs: Any) -> Any:
    raise LookupError("not to be asked")


def odd(*bases: type, of: Any = (), **attributes: Any) -> Any:
    """A value of a class with these attributes."""
    return type("Odd", bases, attributes)(*([of] if bases else []))


SILENT = dict.fromkeys(("__str__", "__repr__", "__format__", "__eq__", "__hash__"), raises)
HEADERS: dict[str, Any] = {
    "numbers": [(1, 2)],
    "nothing": [None],
    "three": [(b"a", b"b", b"c")],
    "names that raise": [(odd(bytes, of=b"x", lower=raises, decode=raises), b"y")],
    "values that raise": [(b"content-length", odd(strip=raises, __bytes__=raises))],
    "pairs that raise": [odd(__iter__=raises)],
    "a length that is none": [(b"content-length", "\N{SUPERSCRIPT TWO}")],
}
STATUS: dict[str, Any] = {
    "text": "200 OK",
    "a list": [200],
    "none": None,
    "silent": odd(**SILENT),
    "one that compares": odd(__lt__=raises, __ge__=raises),
}
PATHS: dict[str, Any] = {"bytes": b"/x", "silent": odd(**SILENT), "none": None}
ROWS = [
    *[{"headers": value, "id": f"headers: {name}"} for name, value in HEADERS.items()],
    *[{"status": value, "id": f"status: {name}"} for name, value in STATUS.items()],
    *[{"path": value, "id": f"path: {name}"} for name, value in PATHS.items()],
    *[{"method": value, "id": f"method: {name}"} for name, value in PATHS.items()],
]
ALL = pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])


async def nothing() -> None: ...


def fails() -> None:
    raise ValueError


def register() -> list[Callback[Any]]:
    """Callbacks of each kind that ask for the outcome, and others."""
    callbacks = [
        after_response.using(when=when, concurrent=concurrent)(function)
        for when in ("always", "success", "error", "disconnect", lambda outcome: True)
        for concurrent in (False, True)
        for function in (int, nothing)
    ]
    callbacks += [after_response(fails), after_response(int)]
    takes = after_response.using(takes_outcome=True)
    return [*callbacks, takes(lambda outcome: (repr(outcome), outcome))]


def check(callbacks: list[Callback[Any]], runner: Runner) -> Outcome:
    check_at_rest(runner)
    states = [callback.state.name for callback in callbacks]
    assert {*states} <= {"SUCCEEDED", "SKIPPED", "FAILED"}
    assert states.count("FAILED") == 1
    assert states[-2:] == ["SUCCEEDED"] * 2
    outcome: Outcome = callbacks[-1].result()[1]
    assert outcome.status is None or type(outcome.status) is int
    assert all(type(text) is str for header in outcome.headers for text in header)
    # Which one it is: that, or none.
    ran = {callbacks[4 * number].state.name for number in (1, 2, 3)}
    assert ran == {"SUCCEEDED", "SKIPPED"}
    return outcome


@ALL
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("hold", [False, True])
async def test_behind_the_asgi_wrapper(
    row: dict[str, Any], parts: int, hold: bool, make_runner: MakeRunner
) -> None:
    """In parts, the length is looked up while they are sent."""
    runner = make_runner(limit=2, max_threads=2)
    callbacks: list[Callback[Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        callbacks.extend(register())
        start = {"status": row.get("status", 200), "headers": row.get("headers", [])}
        await send({"type": "http.response.start", **start})
        for number in range(parts):
            more = number + 1 < parts
            await send({"type": "http.response.body", "body": b"ok", "more_body": more})

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None: ...

    scope = {"type": "http", "path": row.get("path", "/"), "method": row.get("method", "GET")}
    async with asyncio.timeout(DEADLINE):
        await AfterResponseMiddleware(app, runner=runner, hold=hold)(scope, receive, send)
        await runner.drain()
    outcome = check(callbacks, runner)
    assert outcome.completion.name == "SENT"


@ALL
@pytest.mark.parametrize("kind", ["loop", "threads"])
async def test_of_an_exchange(row: dict[str, Any], kind: str, make_runner: MakeRunner) -> None:
    """Late, too: what was sealed stays so."""
    runner = make_runner(limit=2, max_threads=2)
    exchange = (loop_exchange if kind == "loop" else thread_exchange)(runner)
    exchange.path, exchange.method = row.get("path", "/"), row.get("method", "GET")
    with responding(exchange, row.get("status", 200)):
        exchange._headers = row.get("headers", [])
        callbacks = register()
    await runner.drain(DEADLINE)
    outcome = check(callbacks, runner)
    with responding(exchange):
        late = after_response.using(when="success", takes_outcome=True)(lambda outcome: outcome)
    await runner.drain(DEADLINE)
    if late.state.name == "SUCCEEDED":
        assert late.result() is outcome
    assert exchange.outcome is outcome


@pytest.mark.parametrize("lane", ["threads", "inline"])
@pytest.mark.parametrize(
    "headers",
    [[(1, 2)], [None], [("a", "b", "c")], [(odd(str, of="x", encode=raises), "y")]],
    ids=["numbers", "nothing", "three", "names that raise"],
)
def test_behind_the_wsgi_wrapper(headers: list[Any], lane: Any, make_runner: MakeRunner) -> None:
    runner = make_runner(limit=2, max_threads=2)
    callbacks: list[Callback[Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        callbacks.extend(register())
        start_response("200 OK", headers)
        return [b"ok"]

    served: Any = WsgiMiddleware(app, runner=runner, lane=lane)
    body = served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *args: print)
    assert b"".join(body) == b"ok"
    body.close()
    asyncio.run(runner.drain(DEADLINE))
    assert check(callbacks, runner).headers == ()


def test_where_the_connection_cannot_be_asked(make_runner: MakeRunner) -> None:
    """It is not looked at a second time."""
    from async_after._core.exchange import Exchange

    class Unknown(Exchange):
        _connection = raises

    runner = make_runner()
    exchange = Unknown(runner.thread_dispatcher(), "GET", "/")
    with responding(exchange):
        callbacks = register()
    asyncio.run(runner.drain(DEADLINE))
    assert check(callbacks, runner).delivery.name == "HANDED"
