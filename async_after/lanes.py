"""Where a callback runs: a task on an event loop, or a worker thread.

Both lanes do the same around the callable: enter the context of its
registration, ask the predicate, call, clean up after it, and settle it with
whatever came of it (promise 5, isolated; promise 11, no_leaks).
"""

import _thread
import asyncio
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from . import contexts, hygiene
from .callback import Callback, CallbackState, Options
from .exchange import Exchange, current_callback, task_of
from .threads import Worker, WorkerPool


class Unit(Protocol):
    """What the runner has given a slot to, seen from a lane."""

    exchange: Exchange

    def advance(self) -> None:
        """The callback is settled: go on with the next one, or give the slot back."""


def settle(
    exchange: Exchange, callback: Callback[Any], result: Any, error: BaseException | None
) -> bool:
    """Settle a callback that has run; ``False`` if a timeout was faster."""
    stopping = callback._stopping
    if stopping is CallbackState.TIMED_OUT:
        # However it ends, it did not within its time.
        return exchange.settle(callback, CallbackState.TIMED_OUT)
    if error is None:
        return exchange.settle(callback, CallbackState.SUCCEEDED, result)
    if stopping is not None and isinstance(error, asyncio.CancelledError):
        return exchange.settle(callback, stopping)
    # Without our own frames nothing in the exception leads back to this
    # callback and its arguments: both are free as soon as they are dropped.
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    return exchange.settle(callback, CallbackState.FAILED, exception=error)


def call(exchange: Exchange, callback: Callback[Any]) -> Any:
    """Call it, in its context. ``_SKIPPED`` if its predicate says no."""
    task = task_of(callback)
    options: Options = callback.options
    if callable(options.when) and not options.when(exchange.sealed):
        return _SKIPPED
    if options.takes_outcome:
        return task.func(exchange.sealed, *task.args, **task.kwargs)
    return task.func(*task.args, **task.kwargs)


_SKIPPED = object()


def _enter(callback: Callback[Any]) -> None:
    """From inside its context: what both lanes do first."""
    current_callback.set(callback)
    task = task_of(callback)
    here = _thread.get_ident()
    if task.thread != here:
        contexts.rehome_locals()
        task.thread = here


# The event loop.


class LoopLane:
    """Runs coroutine functions as tasks of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: WorkerPool) -> None:
        self.loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self._coming: dict[Callback[Any], Unit] = {}
        self._sessions = SessionExecutor(pool)
        self._thread_sensitive = contexts.thread_sensitive_context(self._sessions)

    def abandon(self) -> None:
        """The loop is closed: what it had not ended is lost, and accounted for."""
        for task in [*self._tasks]:
            steps: Any = task.get_coro()
            steps.close()
        for callback, unit in [*self._coming.items()]:
            unit.exchange.settle(callback, CallbackState.DROPPED)
            unit.advance()

    def start_soon(self, unit: Unit, callback: Callback[Any], timeout: float | None) -> None:
        """Start it from any thread. ``RuntimeError`` if the loop is closed."""
        self._coming[callback] = unit
        try:
            self.loop.call_soon_threadsafe(self._start_coming, unit, callback, timeout)
        except RuntimeError:
            del self._coming[callback]
            raise

    def _start_coming(self, unit: Unit, callback: Callback[Any], timeout: float | None) -> None:
        del self._coming[callback]
        self.start(unit, callback, timeout)

    def start(self, unit: Unit, callback: Callback[Any], timeout: float | None) -> None:
        """Start it as a task. In the loop's thread only."""
        steps = Steps(self, unit, callback)
        # Not loop.create_task: an eager task factory would run the callback
        # here, inside the request. The runner's task is referenced until its
        # end, or it could be collected half way (asyncio, create_task).
        task: asyncio.Task[None] = asyncio.Task(
            steps, loop=self.loop, name=callback.name, context=task_of(callback).context
        )
        steps.task = task
        self._tasks.add(task)
        if timeout is not None:
            steps.timer = self.loop.call_later(
                timeout, unit.exchange.stop, callback, CallbackState.TIMED_OUT
            )
        callback._stop = steps.cancel
        if callback._stopping is not None:
            task.cancel()

    def forget(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)

    def enter(self, callback: Callback[Any]) -> None:
        """Prepare the callback's own context, from inside."""
        _enter(callback)
        contexts.forget_current_thread_executor()
        contexts.set_thread_sensitive_context(self._thread_sensitive)
        hygiene.forget_caches()

    def leave(self, callback: Callback[Any]) -> Coroutine[Any, Any, None] | None:
        """Clean up from inside its context; what is left to be awaited, if anything."""
        hygiene.close_caches()
        return self._sessions.end(callback)


class InlineLane(LoopLane):
    """Awaits coroutine functions for somebody who waits for their end, a test
    client say. Connections and caches are the caller's: nothing is closed."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sensitivity: contexts.ThreadSensitivity
    ) -> None:
        self.loop = loop
        self._tasks = set()
        self._sensitivity = sensitivity

    def enter(self, callback: Callback[Any]) -> None:
        _enter(callback)
        self._sensitivity.apply()

    def leave(self, callback: Callback[Any]) -> Coroutine[Any, Any, None] | None:
        return None


class Steps(Coroutine[Any, Any, None]):
    """The coroutine of a callback's task: each step of the task passes here.

    A plain ``async def`` around the callback would not do: a task that is
    cancelled before its first step never enters its coroutine, and the
    callback, with all that wait behind it, would be lost.
    """

    __slots__ = ("_callback", "_coroutine", "_ending", "_lane", "_unit", "task", "timer")

    def __init__(self, lane: LoopLane, unit: Unit, callback: Callback[Any]) -> None:
        self._lane = lane
        self._unit = unit
        self._callback = callback
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._ending: tuple[Any, BaseException | None] | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Cancel the task. Any thread may call."""
        try:
            self._lane.loop.call_soon_threadsafe(self.task.cancel)  # type: ignore[union-attr]
        except RuntimeError:  # the loop is closed, and its tasks are dead
            pass

    def send(self, value: Any) -> Any:
        try:
            if self._coroutine is None:
                result = self._begin()
                if self._coroutine is None:
                    return self._end(result, None)
            return self._coroutine.send(value)
        except StopIteration as stop:
            result = stop.value
        except KeyboardInterrupt as error:
            self._end_at_once(error)
            raise
        except BaseException as error:
            return self._end(None, error)
        return self._end(result, None)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        if self._coroutine is None:
            return self._end(None, error)
        try:
            return self._coroutine.throw(error)
        except StopIteration as stop:
            result = stop.value
        except KeyboardInterrupt as interrupt:
            self._end_at_once(interrupt)
            raise
        except BaseException as raised:
            return self._end(None, raised)
        return self._end(result, None)

    def close(self) -> None:
        """The task is thrown away, its loop closed: asyncio has lost the callback."""
        if self._coroutine is not None:
            self._coroutine.close()
        if not self._callback.done():
            self._settle(None, None, lost=True)

    def __await__(self) -> Generator[Any, Any, None]:
        raise TypeError("the steps of a callback belong to its task")

    def _begin(self) -> Any:
        callback = self._callback
        self._lane.enter(callback)
        coroutine = callback._returned
        if coroutine is None:
            coroutine = call(self._unit.exchange, callback)
        if hasattr(coroutine, "send"):
            self._coroutine = coroutine
        elif hasattr(coroutine, "__await__"):
            self._coroutine = _await(coroutine)
        return coroutine

    def _end(self, result: Any, error: BaseException | None) -> Any:
        """The callable has ended. What must still be awaited becomes the
        coroutine; otherwise this was the task's last step."""
        if self._ending is None:
            self._ending = result, error
            if self.timer is not None:
                self.timer.cancel()
            leaving = self._lane.leave(self._callback)
            if leaving is not None:
                self._coroutine = leaving
                return self.send(None)
        self._settle(*self._ending)
        raise StopIteration

    def _end_at_once(self, error: BaseException) -> None:
        if self._ending is None:
            self._ending = None, error
        self._settle(*self._ending)

    def _settle(self, result: Any, error: BaseException | None, *, lost: bool = False) -> None:
        unit, callback, task = self._unit, self._callback, self.task
        if lost:
            unit.exchange.settle(callback, CallbackState.DROPPED)
        elif result is _SKIPPED:
            unit.exchange.settle(callback, CallbackState.SKIPPED)
        elif (
            isinstance(error, asyncio.CancelledError)
            and callback._stopping is None
            and task is not None
            and task.cancelling()
        ):
            # Somebody cancelled all tasks of the loop, as asyncio.run does at its end.
            unit.exchange.settle(callback, CallbackState.DROPPED)
        else:
            settle(unit.exchange, callback, result, error)
        if task is not None:
            self._lane.forget(task)
        unit.advance()


async def _await(awaitable: Any) -> Any:
    return await awaitable


class SessionExecutor(Executor):
    """The executor behind the thread-sensitive calls of async callbacks.

    asgiref wants one thread per ThreadSensitiveContext. One context serves
    all callbacks of a loop; this executor looks at who is calling and gives
    each callback one worker for its lifetime (``WorkerPool.reserve``).
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._workers: dict[Callback[Any], Worker] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        callback = current_callback.get()
        future: Future[Any] = Future()
        if callback is None or callback.done():
            # A task that has outlived its callback: any thread, left clean.
            def once() -> None:
                hygiene.close_old_connections()
                _fulfil(future, fn, args, kwargs)
                hygiene.close_old_connections()

            self._pool.submit(once)
            return future
        worker = self._workers.get(callback)
        if worker is None:
            worker = self._workers[callback] = self._pool.reserve()
            self._pool.give(worker, hygiene.close_old_connections)
        self._pool.give(worker, lambda: _fulfil(future, fn, args, kwargs))
        return future

    def end(self, callback: Callback[Any]) -> Coroutine[Any, Any, None] | None:
        worker = self._workers.pop(callback, None)
        return None if worker is None else self._clean(worker)

    async def _clean(self, worker: Worker) -> None:
        cleaned: Future[None] = Future()

        def clean() -> None:
            hygiene.close_old_connections()
            self._pool.release(worker)
            cleaned.set_result(None)

        self._pool.give(worker, clean)
        await asyncio.shield(asyncio.wrap_future(cleaned))


def _fulfil(
    future: "Future[Any]", fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = fn(*args, **kwargs)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


# Threads.


def run_in_thread(exchange: Exchange, callback: Callback[Any], *, inline: bool = False) -> bool:
    """Run a plain function in this thread; ``False`` if it is not over: a
    timeout was faster, or it returned a coroutine, which a loop must await.

    ``inline``: the thread is not the runner's, and nothing is closed in it.
    """
    context = task_of(callback).context
    error: BaseException | None = None
    result = None
    try:
        if inline:
            result = context.run(_enter_and_call, exchange, callback)
        else:
            hygiene.close_old_connections()
            try:
                result = context.run(_enter_and_call_cleanly, exchange, callback)
            finally:
                hygiene.close_old_connections()
    except BaseException as raised:
        error = raised
    try:
        if asyncio.iscoroutine(result):
            callback._returned = result
            return False
        if result is _SKIPPED:
            return exchange.settle(callback, CallbackState.SKIPPED)
        return settle(exchange, callback, result, error)
    finally:
        if isinstance(error, KeyboardInterrupt):
            if inline:
                raise error
            _thread.interrupt_main()
        del error, result


def _enter_and_call(exchange: Exchange, callback: Callback[Any]) -> Any:
    _enter(callback)
    return call(exchange, callback)


def _enter_and_call_cleanly(exchange: Exchange, callback: Callback[Any]) -> Any:
    _enter(callback)
    hygiene.forget_caches()
    try:
        return call(exchange, callback)
    finally:
        hygiene.close_caches()
