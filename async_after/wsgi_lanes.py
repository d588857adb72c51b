"""Where callbacks run under WSGI: in the runner's threads, or in the server's own.

What runs inside ``close()`` holds up the next request on the connection, and
EOF, on nearly every server. So by default it only hands the callbacks over.
"""

import functools
import importlib
import sys
import threading
from typing import Any, Protocol

from . import conf, hygiene
from .callback import Callback, CallbackState
from .calling import run_in_thread
from .conf import WsgiLane
from .dispatch import Dispatcher
from .exchange import Exchange
from .inline import InlineDispatcher
from .instrumentation import log
from .runner import Runner
from .units import Alone, SingleUnit, Unit

_CONTROL_IS_BACK = 0.05
"""Seconds after which an error that has left the app is surely in the hands of
the server. Nothing tells us of that moment, and nobody waits for these callbacks."""


class Lane(Protocol):
    """For one exchange, from its beginning."""

    @property
    def host(self) -> Dispatcher: ...

    def run(self, exchange: Exchange) -> None:
        """In ``close()``: the exchange has ended, and has callbacks."""

    def run_soon(self, exchange: Exchange) -> None:
        """When control is back with the server: the app has failed."""

    def finish(self, exchange: Exchange) -> None:
        """It has ended without callbacks: what is registered later is late."""


def lane_of(runner: Runner, wanted: WsgiLane | None = None) -> Lane:
    """The lane that is ``wanted``; by default what ``ASYNC_AFTER["WSGI_LANE"]`` says."""
    if (wanted or conf.setting("wsgi_lane")) == "inline" or not _has_threads():
        return InServer(runner)
    return InThreads(runner)


class InThreads:
    """``close()`` hands the callbacks to the runner's threads and returns."""

    def __init__(self, runner: Runner) -> None:
        self.host: Dispatcher = runner.thread_dispatcher()
        self._runner = runner

    def run(self, exchange: Exchange) -> None:
        self.host.dispatch(exchange)

    def finish(self, exchange: Exchange) -> None:
        pass

    def run_soon(self, exchange: Exchange) -> None:
        self._runner.timers.call_later(
            _CONTROL_IS_BACK, functools.partial(self.host.dispatch, exchange)
        )


class InServer:
    """``close()`` runs them: the server's own limits bound them, and its
    thread's database connection serves them."""

    def __init__(self, runner: Runner) -> None:
        self.host: _ServerDispatcher = _ServerDispatcher(runner)
        self._runner = runner

    def run(self, exchange: Exchange) -> None:
        self.host.run(exchange)

    def run_soon(self, exchange: Exchange) -> None:
        self._runner.timers.call_later(
            _CONTROL_IS_BACK, functools.partial(self.host.finish, exchange)
        )

    def finish(self, exchange: Exchange) -> None:
        self.host.finish(exchange)


class _ServerDispatcher(InlineDispatcher):
    """Runs the chain of an exchange in the server's thread, its coroutine
    functions on the background loop and its concurrent callbacks in the
    runner's threads, and waits for all of them."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        self._woken = threading.Event()

    def dispatch(self, exchange: Exchange) -> None:
        if self._is_over:
            super().dispatch(exchange)
        else:
            self._woken.set()

    def give_up(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        # Concurrent ones are the threads'; of the others it knows as little as this.
        self._runner.threads.give_up(callback, state, reason)

    def run(self, exchange: Exchange) -> None:
        exchange.parent = self._parent  # for the deadlock guard
        try:
            while self._runner.books.holds(exchange):
                self._woken.clear()
                claims = exchange.claim()
                for callback in filter(None, claims):
                    threads = self._runner.thread_dispatcher()
                    self._runner.submit(SingleUnit(threads, exchange, callback))
                if None in claims:
                    self._run_chain(exchange)
                elif not claims:
                    exchange.idle_latch().subscribe(self._woken.set)
                    self._woken.wait()
        finally:
            self.finish(exchange)
            hygiene.close_old_connections()

    def _run_chain(self, exchange: Exchange) -> None:
        try:
            for callback in (chain := Unit(self, exchange)):
                if not callback.is_async:
                    run_in_thread(exchange, callback, in_server=True)
                if not callback.done():
                    chain.start(self._wait_for, callback)
        except BaseException:
            # The server wants its thread back: the others go on without it.
            self._runner.submit(Unit(self._runner.thread_dispatcher(), exchange))
            raise

    def _wait_for(self, unit: Unit, callback: Callback[Any]) -> bool:
        alone = Alone(unit)
        if not self._runner.background.start(alone, callback):
            return False
        alone.over.wait_in_thread()
        return True


def _has_threads() -> bool:
    """Whether threads run while no request is being answered.

    Not on uWSGI without ``--enable-threads``: it keeps the GIL while it waits.
    """
    global _is_told
    if "uwsgi" not in sys.modules and not hasattr(sys, "_uwsgi"):
        return True
    uwsgi: Any = importlib.import_module("uwsgi")
    has_threads = bool(uwsgi.opt.get("enable-threads") or uwsgi.opt.get("threads"))
    if not has_threads and not _is_told:
        _is_told = True
        log(
            "warning",
            "uWSGI runs without threads, so callbacks run in close(), and the next request waits"
            ' for them. Start it with --enable-threads, or set ASYNC_AFTER["WSGI_LANE"] to'
            ' "inline" to say that this is wanted.',
        )
    return has_threads


_is_told = False
