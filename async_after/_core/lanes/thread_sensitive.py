"""One worker thread for the thread-sensitive calls of each async callback.

Promise 11, no_leaks: its database connections are closed, or kept for the
next one, in that thread when the callback has ended.
"""

from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

from ..exchange import Callback, current_callback
from ..runtime import Latch
from . import cleanup
from .contexts import fulfil
from .threads import WorkerPool
from .worker import Worker

_PATIENCE = 1.0
"""Seconds that a callback's end waits for its thread, which may be held up by
others, or by a call that was cancelled: it cleans up later then."""

_NEW = Worker()
"""Stands for the worker of a callback that has none yet."""


class SessionExecutor(Executor):
    """The executor behind the thread-sensitive calls of async callbacks.

    asgiref wants one thread per ThreadSensitiveContext. One context serves
    all callbacks of a loop; this executor looks at who is calling and gives
    each callback one worker for its lifetime (``WorkerPool.reserve``).
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        # None stands for a callback that is being cleaned up after.
        self.workers: dict[Callback[Any], Worker | None] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        callback = current_callback.get()
        future: Future[Any] = Future()
        worker = None if callback is None else self.workers.get(callback, _NEW)
        if callback is None or worker is None or callback.done():
            # A task that has outlived its callback: any thread, left clean.
            def once() -> None:
                cleanup.close_old_connections()
                fulfil(future, fn, args, kwargs)
                cleanup.close_old_connections()

            self._pool.submit(once)
            return future
        if worker is _NEW:
            worker = self.workers[callback] = self._pool.reserve()
            self._pool.give(worker, partial(cleanup.begin_session, callback))
        mine = worker

        def call() -> Any:
            try:
                return fn(*args, **kwargs)
            finally:
                # Before the answer: the callback may at once make others look for a worker.
                mine.is_at_end = True

        self._pool.give(worker, lambda: fulfil(future, call, (), {}))
        return future

    def end(self, callback: Callback[Any]) -> Coroutine[Any, Any, None] | None:
        worker = self.workers.get(callback)
        if worker is None:
            return None
        self.workers[callback] = None
        return self._clean(callback, worker)

    def lose(self, callback: Callback[Any]) -> None:
        """The same without a loop, which is closed."""
        worker = self.workers.pop(callback, None)
        if worker is not None:
            self._give_back(callback, worker)

    async def _clean(self, callback: Callback[Any], worker: Worker) -> None:
        try:
            await self._give_back(callback, worker).wait(_PATIENCE)
        finally:
            del self.workers[callback]

    def _give_back(self, callback: Callback[Any], worker: Worker) -> Latch:
        cleaned = Latch()

        def clean() -> None:
            try:
                cleanup.end_session(callback)
            finally:
                self._pool.release(worker)
                cleaned.open()

        self._pool.give(worker, clean)
        return cleaned
