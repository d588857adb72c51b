"""Views that register callbacks with ``on_commit``, and let their transactions end."""

import asyncio
import gc
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse

from async_after import aafter_response

from . import transactions
from .transactions import RollBackError, asee, insert, register, see, see_outcome
from .views import DEADLINE, registered

# The site's settings may say ATOMIC_REQUESTS, which Django refuses for coroutine functions.
plain = transaction.non_atomic_requests


def sync_view(request: HttpRequest, name: str, ident: str) -> JsonResponse:
    return JsonResponse({"error": _tried(name, ident, request)})


def raising_view(request: HttpRequest, name: str, ident: str) -> JsonResponse:
    _tried(name, ident, request)
    raise RollBackError


@plain
async def async_view(request: HttpRequest, name: str, ident: str) -> JsonResponse:
    if name not in _ASYNC:
        return JsonResponse({"error": await sync_to_async(_tried)(name, ident, request)})
    try:
        await _ASYNC[name](ident)
    except Exception as error:
        return JsonResponse({"error": f"{type(error).__name__}: {error}"})
    return JsonResponse({"error": None})


def _tried(name: str, ident: str, request: HttpRequest) -> str | None:
    """What it raises."""
    try:
        if name == "in_thread":
            _in_thread(ident, request)
        else:
            getattr(transactions, name)(ident)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


# Transactions that outlive the response, until ``let``.

_how: dict[str, str] = {}
_decided: dict[str, threading.Event] = defaultdict(threading.Event)
_over: dict[str, threading.Event] = defaultdict(threading.Event)


def _in_thread(ident: str, request: HttpRequest) -> None:
    """A thread that has no context of the request."""
    is_registered = threading.Event()

    def hold() -> None:
        try:
            _hold(ident, is_registered, request=request)
        finally:
            connections.close_all()

    threading.Thread(target=hold, daemon=True).start()
    assert is_registered.wait(DEADLINE)
    register(ident, "other", on_commit=False)


async def _in_task(ident: str) -> None:
    """The same of a task, which has the context."""
    is_registered = threading.Event()
    hold = sync_to_async(_hold, thread_sensitive=False)
    _tasks.add(asyncio.create_task(hold(ident, is_registered)))
    assert await asyncio.to_thread(is_registered.wait, DEADLINE)
    register(ident, "other", on_commit=False)


_tasks: set[Any] = set()


def _hold(ident: str, is_registered: threading.Event, **options: Any) -> None:
    try:
        with transaction.atomic():
            insert(ident, "row")
            register(ident, "held", **options)
            register(ident, "held too", asee, **options)
            is_registered.set()
            _end_as_told(ident)
    except RollBackError:
        pass
    finally:
        _over[ident].set()


def _end_as_told(ident: str) -> None:
    assert _decided[ident].wait(DEADLINE)
    if _how[ident] == "rollback":
        raise RollBackError
    if _how[ident] == "close":
        connection.close()


@plain
async def let(request: HttpRequest, ident: str, how: str) -> JsonResponse:
    """Let the transaction end in this way."""
    _how[ident] = how
    _decided[ident].set()
    assert await asyncio.to_thread(_over[ident].wait, DEADLINE)
    return JsonResponse({})


@plain
async def states(request: HttpRequest, ident: str) -> JsonResponse:
    if "collect" in request.GET:
        gc.collect()
    return JsonResponse({"states": [callback.state.name for callback in registered[ident]]})


# From coroutines.


async def _aregister(ident: str, name: str, func: Callable[..., Any] = see, **options: Any) -> None:
    registrar = aafter_response.using(on_commit=True).using(**options)
    registered[ident].append(await registrar(func, ident, name))


async def _acommitted(ident: str) -> None:
    """A block that a coroutine enters and leaves in the thread of the connection."""
    block = transaction.atomic()
    await sync_to_async(block.__enter__)()
    await sync_to_async(insert)(ident, "row")
    await _aregister(ident, "sync")
    await _aregister(ident, "async", asee)
    assert {callback.state.name for callback in registered[ident]} == {"PENDING"}
    await sync_to_async(block.__exit__)(None, None, None)


async def _arolled_back(ident: str) -> None:
    block = transaction.atomic()
    await sync_to_async(block.__enter__)()
    await sync_to_async(insert)(ident, "row")
    await _aregister(ident, "sync")
    await _aregister(ident, "async", asee)
    await sync_to_async(block.__exit__)(RollBackError, RollBackError(), None)


async def _awithout_transaction(ident: str) -> None:
    await sync_to_async(insert)(ident, "row")
    await _aregister(ident, "sync")
    await _aregister(ident, "async", asee)


async def _aplain(ident: str) -> None:
    register(ident, "never")


_ASYNC = {
    "acommitted": _acommitted,
    "arolled_back": _arolled_back,
    "awithout_transaction": _awithout_transaction,
    "aplain": _aplain,
    "in_task": _in_task,
}


# Bodies that hold a transaction open: ``how`` is "commit", "raise" or "endless".


def stream(request: HttpRequest, how: str, ident: str) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        with transaction.atomic():
            insert(ident, "row")
            register(ident, "held", see_outcome, takes_outcome=True)
            yield b'{"text": "'
            while how == "endless":
                yield b"x" * 100_000
            if how == "raise":
                raise RollBackError
        yield b'"}'

    return StreamingHttpResponse(parts())


def astream(request: HttpRequest, how: str, ident: str) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        block = transaction.atomic()
        await sync_to_async(block.__enter__)()
        error: BaseException | None = None
        try:
            await sync_to_async(insert)(ident, "row")
            await _aregister(ident, "held", see_outcome, takes_outcome=True)
            yield b'{"text": "'
            while how == "endless":
                yield b"x" * 100_000
                await asyncio.sleep(0)
            if how == "raise":
                raise RollBackError
        except BaseException as raised:
            error = raised
            raise
        finally:
            await sync_to_async(block.__exit__)(type(error) if error else None, error, None)
        yield b'"}'

    return StreamingHttpResponse(parts())
