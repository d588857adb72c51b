"""The background lane: one event loop in a thread of the runner's own.

Not even a coroutine function that blocks holds a request up there. Callbacks
of exchanges without a loop (WSGI) run there too: it lives across requests, so
that what is bound to a loop, an async client say, can be kept.
"""

import _thread
import asyncio
import functools
import threading
from contextvars import Context
from typing import Any

from ..exchange import Callback
from ..runtime import Gate, gevent, log, running_loop
from . import gevent_native
from .base import ChainLike
from .event_loop import LoopLane, SlowStep
from .thread_sensitive import SessionExecutor
from .threads import WorkerPool


class BackgroundLoop:
    """Started by the first callback; ``close`` ends it, and the next one starts another."""

    def __init__(self, pool: WorkerPool, slow_step: SlowStep | None = None) -> None:
        self._pool = pool
        self._slow_step = slow_step
        self._gate = Gate()
        self._lane: _BackgroundLane | None = None

    def start(self, chain: ChainLike, callback: Callback[Any]) -> bool:
        """Start it there; ``False`` if that cannot be done, and it is settled."""
        start = functools.partial(self._start_or_advance, chain, callback)
        if gevent.go_home(start):
            return True
        lane = self._gate.make(self._lane_now, None, start)
        if lane is None:  # behind the change that is under way here
            return True
        hub = gevent.home()
        if hub is None:
            return lane.start_from_anywhere(chain, callback)
        remote = gevent_native.Remote(chain, hub)
        is_started = lane.start_from_anywhere(remote, callback)
        if not is_started:
            remote.tell()
        return is_started

    def _lane_now(self) -> "_BackgroundLane | None":
        if self._lane is None or self._lane._is_abandoned:  # or it has died
            self._lane = self._open()
        return self._lane

    def _start_or_advance(self, chain: ChainLike, callback: Callback[Any]) -> None:
        try:
            if self.start(chain, callback):
                return
        except Exception as error:
            message = "callback %s cannot be started"
            log("exception", "callback_not_started", message, callback.describe(), of=callback)
            chain.exchange.drop(callback, f"it cannot be started: {error}")
        chain.advance()

    def is_here(self) -> bool:
        """Whether this is called in its thread, which must not be blocked."""
        lane = self._lane
        return lane is not None and running_loop() is lane.loop

    def close(self) -> None:
        with (gate := self._gate).lock:
            if gate.is_busy:
                gate.asked.append(self.close)
                return
            lane, self._lane = self._lane, None
        if lane is not None:
            lane.is_closed = True
            lane.loop.call_soon_threadsafe(lane.loop.stop)

    def _open(self) -> "_BackgroundLane":
        if gevent.is_patched():
            return self._open_natively()
        lane = _BackgroundLane(
            asyncio.new_event_loop(), SessionExecutor(self._pool), self._slow_step
        )
        lane.thread = threading.Thread(
            target=_serve, args=(lane,), name="async_after background loop", daemon=True
        )
        try:
            Context().run(lane.thread.start)
        except RuntimeError:  # the system has no more, or the interpreter is at its end
            lane.loop.close()
            raise
        return lane

    def mend(self) -> None:
        """See ``LoopLane.mend``."""
        lane = self._lane
        if lane is None:
            return
        if lane.thread is not None and not lane.thread.is_alive():
            lane.abandon()
            lane.loop.close()
        else:
            lane.mend()

    def _open_natively(self) -> "_BackgroundLane":
        sessions = SessionExecutor(self._pool)
        made: list[_BackgroundLane] = []
        failed: list[Exception] = []
        is_made = gevent.native_lock()
        is_made.acquire()

        def serve() -> None:
            try:
                made.append(_BackgroundLane(gevent.NativeLoop(), sessions, self._slow_step))
            except Exception as error:  # the process has no file left, say
                failed.append(error)
            is_made.release()
            if made:
                _serve(made[0])

        gevent.start_native_thread(serve)
        is_made.acquire()
        if failed:
            raise failed[0]
        return made[0]


class _BackgroundLane(LoopLane):
    thread: threading.Thread | None = None
    """None where it is native."""
    is_closed = False
    """It ends when it stops, and only then: a callback that stops its loop ends nobody else."""

    def is_ending(self) -> bool:
        # It ends when nothing is left; a lonely task that is cancelled says nothing.
        return False


def _serve(lane: _BackgroundLane) -> None:
    loop = lane.loop
    try:
        # Its end is that of asyncio.run, whose loop cannot be had before it runs.
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.get_loop()
            _run_forever(lane)
    except RuntimeError:  # at interpreter exit it may not start the thread that ends its executor
        loop.close()
    finally:
        lane.abandon()


def _run_forever(lane: _BackgroundLane) -> None:
    while not lane.is_closed:
        try:
            lane.loop.run_forever()
        except KeyboardInterrupt:
            _thread.interrupt_main()
        except BaseException:  # a SystemExit in a task that a callback has made, say
            message = "something broke out of the background loop, which goes on"
            log("exception", "internal_error", message)
