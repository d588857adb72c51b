"""How each of the ways of Django does work after the response: ``WAYS``.

Those without a package are written as one finds them in answers and blogs:
a plain loop, with no guard around each piece of work.
"""

import asyncio
import functools
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase as Response
from django.utils.decorators import async_only_middleware

from async_after import after_response
from async_after.asgi import AfterResponseMiddleware, App, Message, Receive, Scope, Send

from .. import work
from ..work import Work

KEY = "rivals.works"
Works = Sequence[Work]


class Way:
    """Django without anything: the base of all, and the way ``nothing``."""

    response_class: type[HttpResponse] = HttpResponse
    streaming_class: type[StreamingHttpResponse] = StreamingHttpResponse
    has_sync_view = False
    """Whether plain functions are registered in a plain view."""

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        """In the view, with the response that it is going to return."""

    def register_sync(self, works: Works) -> None:
        raise NotImplementedError

    def wrap(self, app: App) -> App:
        return app


async def run(works: Works) -> None:
    for each in works:
        if each.kind == "async":
            await each.async_function(*each.arguments)
        else:
            await sync_to_async(each.function)(*each.arguments)


class Awaited(Way):
    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        await run(works)


class OnRequest(Way):
    """The work is kept on the request; the middleware below does it."""

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        cast(Scope, request.scope)[KEY] = works


@async_only_middleware
def work_after_get_response(
    get_response: Callable[[HttpRequest], Awaitable[Response]],
) -> Callable[[ASGIRequest], Awaitable[Response]]:
    """https://docs.djangoproject.com/en/stable/topics/http/middleware/: "code to be executed
    for each request/response after the view is called"."""

    async def middleware(request: ASGIRequest) -> Response:
        response = await get_response(request)
        await run(request.scope.get(KEY, ()))
        return response

    return middleware


class RequestFinished(Way):
    """https://docs.djangoproject.com/en/stable/ref/signals/#request-finished

    The signal tells nothing of the request: the work waits in one queue for the whole process.
    """

    def __init__(self) -> None:
        self._async: deque[Work] = deque()
        self._sync: deque[Work] = deque()
        request_finished.connect(self._run_async)
        request_finished.connect(self._run_sync)

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        for each in works:
            (self._async if each.kind == "async" else self._sync).append(each)

    async def _run_async(self, **_: object) -> None:
        while self._async:
            each = self._async.popleft()
            await each.async_function(*each.arguments)

    def _run_sync(self, **_: object) -> None:
        while self._sync:
            each = self._sync.popleft()
            each.function(*each.arguments)


class _Closing(Response):
    works: Works = ()

    def close(self) -> None:
        super().close()
        for each in self.works:
            each.function(*each.arguments)


class _ClosingResponse(_Closing, HttpResponse):
    pass


class _ClosingStream(_Closing, StreamingHttpResponse):
    pass


class CloseOverride(Way):
    """https://stackoverflow.com/q/4313508: the answer of the question that started this project."""

    response_class = _ClosingResponse
    streaming_class = _ClosingStream

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        assert isinstance(response, _Closing)
        response.works = works


class ResourceClosers(Way):
    """Private: ``HttpResponseBase.close`` calls them, and passes over what they raise."""

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        closers: list[Callable[[], object]] = response._resource_closers  # type: ignore[attr-defined]
        for each in works:
            closers.append(functools.partial(each.function, *each.arguments))


class CreateTask(Way):
    """https://docs.python.org/3/library/asyncio-task.html#asyncio.create_task, without the
    reference that it asks for."""

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        for each in works:
            asyncio.ensure_future(each.async_function(*each.arguments))  # noqa: RUF006  the way


class CreateTaskKept(Way):
    """The same, with the reference."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Future[None]] = set()

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        for each in works:
            task = asyncio.ensure_future(each.async_function(*each.arguments))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


class Thread(Way):
    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        for each in works:
            threading.Thread(target=each.function, args=each.arguments).start()


class InSend(OnRequest):
    """Awaited in the wrapped ``send``, as soon as the server has taken the last message."""

    def wrap(self, app: App) -> App:
        async def wrapper(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_then_work(message: Message) -> None:
                await send(message)
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    await run(scope.get(KEY, ()))

            await app(scope, receive, send_then_work)

        return wrapper


class AfterApp(OnRequest):
    """Awaited in an ASGI wrapper, when the app has returned."""

    def wrap(self, app: App) -> App:
        async def wrapper(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send)
            await run(scope.get(KEY, ()))

        return wrapper


class DjangoAfterResponse(Way):
    """django-after-response, as its README shows it: installed as an app, functions decorated."""

    def __init__(self) -> None:
        import after_response as package  # type: ignore[import-untyped]

        package.enable(work.sync_work)
        package.enable(work.sync_work_that_fails)

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        for each in works:
            decorated: Any = each.function
            decorated.after_response(*each.arguments)


class Tasks(Way):
    """https://docs.djangoproject.com/en/stable/topics/tasks/, with the backend of the settings."""

    def __init__(self) -> None:
        from . import django_tasks

        self._task_of = django_tasks.task_of

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        for each in works:
            await self._task_of(each).aenqueue(*each.arguments)

    def register_sync(self, works: Works) -> None:
        for each in works:
            self._task_of(each).enqueue(*each.arguments)


class TasksInProcess(Tasks):
    """Its two methods connect two receivers: plain functions are enqueued in a plain view."""

    has_sync_view = True


class Celery(Way):
    """https://docs.celeryq.dev/en/stable/userguide/calling.html"""

    def __init__(self) -> None:
        from . import celery_app

        self._tasks = {False: celery_app.sync_task, True: celery_app.sync_task_that_fails}

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        for each in works:
            await sync_to_async(self._tasks[each.fails].delay)(*each.arguments)


class AsyncAfterMiddleware(Way):
    """The Django middleware, which the settings name, without the wrapper."""

    async def register(self, request: ASGIRequest, response: Response, works: Works) -> None:
        for each in works:
            after_response(each.function, *each.arguments)


class AsyncAfter(AsyncAfterMiddleware):
    """The wrapper."""

    def wrap(self, app: App) -> App:
        return AfterResponseMiddleware(app)


WAYS: dict[str, type[Way]] = {
    "nothing": Way,
    "awaited": Awaited,
    "middleware": OnRequest,
    "request_finished": RequestFinished,
    "close-override": CloseOverride,
    "resource-closers": ResourceClosers,
    "create_task-dropped": CreateTask,
    "create_task-kept": CreateTaskKept,
    "thread": Thread,
    "in-send": InSend,
    "after-app": AfterApp,
    "django-after-response": DjangoAfterResponse,
    "immediate": Tasks,
    "django-tasks-inprocess": TasksInProcess,
    "django-tasks-db": Tasks,
    "celery": Celery,
    "async_after": AsyncAfter,
    "async_after-middleware": AsyncAfterMiddleware,
}
