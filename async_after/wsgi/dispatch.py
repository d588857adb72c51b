"""Where callbacks run under WSGI: in the runner's threads, or in the server's own.

What runs inside ``close()`` holds up the next request on the connection, and
EOF, on nearly every server. So by default it only hands the callbacks over.
"""

import functools
import sys
from collections import deque
from typing import Any

from .._core import conf
from .._core.capacity import Alone, Chain, SingleChain
from .._core.conf import WsgiLane
from .._core.exchange import Callback, CallbackState, Exchange, lending
from .._core.lanes import close_old_connections, open_blocks, run_in_thread
from .._core.runner import Dispatcher, InlineDispatcher, Runner
from .._core.runtime import Bell, Latch, check_stack, gevent, log, process
from .ending import Lane

_CONTROL_IS_BACK = 0.05
"""Seconds after which an error that has left the app is most likely in the hands
of the server. Nothing tells us of that moment, and nobody waits for these callbacks."""


def lane_of(runner: Runner, wanted: WsgiLane | None = None) -> Lane:
    """The lane that is ``wanted``; by default what ``ASYNC_AFTER["WSGI_LANE"]`` says."""
    gevent.make_home()
    if (wanted or conf.setting("wsgi_lane")) == "inline" or not _has_threads():
        return InServer(runner)
    return InThreads(runner)


class InThreads:
    """``close()`` hands the callbacks to the runner's threads and returns."""

    def __init__(self, runner: Runner) -> None:
        self.host: Dispatcher = runner.thread_dispatcher()

    def run(self, exchange: Exchange) -> None:
        self.host.give_way(exchange)

    def finish(self, exchange: Exchange) -> None:
        pass

    def run_soon(self, exchange: Exchange) -> None:
        self.host.give_way(exchange, _CONTROL_IS_BACK)


class InServer(InlineDispatcher):
    """``close()`` runs them: the server's own limits bound them, and its
    thread's database connection serves them.

    The chain of an exchange runs in the server's thread, its coroutine
    functions on the background loop and its concurrent callbacks in the
    runner's threads: all of them are waited for.
    """

    closes_with_runner = True

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner)
        # No lock: a destructor may come back here.
        self._woken = Bell()
        self._is_running = False
        self._chains: deque[None] = deque()
        """One, where the chain is claimed and nobody runs it."""
        self._over: Latch | None = None
        """Opens when the async callback ends that is waited for."""

    @property
    def host(self) -> Dispatcher:
        return self

    def run_soon(self, exchange: Exchange) -> None:
        self.finish(exchange, give_way=_CONTROL_IS_BACK)

    def dispatch(self, exchange: Exchange) -> None:
        claims = exchange.claim() if self._is_running else []
        if None in claims:  # first: a signal handler may raise at any moment
            self._chains.append(None)
        for callback in filter(None, claims):
            try:
                # At once: what runs here may be waiting for it.
                threads = self._runner.thread_dispatcher()
                self.capacity.submit(SingleChain(threads, exchange, callback))
            except Exception:
                exchange.reclaim(callback)
                self._dispatch_again(exchange)
        # Behind that, and ``finish`` does it the other way round: one sees the other.
        if not self._is_running and self._takes_chain():
            self._hand_over(exchange)
        self._woken.ring()
        if self._is_over:
            super().dispatch(exchange)

    def resume(self, exchange: Exchange) -> None:
        self.dispatch(exchange)

    def _later(self) -> Dispatcher:
        # Never the loop of this thread: that of async_to_sync ends at once.
        return self._runner.thread_dispatcher()

    def give_up(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        # Concurrent ones are the threads'; of the others it knows as little as this.
        self._runner.threads.give_up(callback, state, reason)

    def run(self, exchange: Exchange) -> None:
        if self.capacity.background.is_here() or process.is_inside():
            # An async callback asks an app in its own process: what it would
            # wait for here, in the loop's thread, could never begin. So it is where
            # a destructor closes a response.
            self.finish(exchange)
            return
        check_stack()  # before anything is taken
        exchange.parent = self._parent  # for the deadlock guard
        blocks = open_blocks()
        try:
            self._is_running = True
            self.dispatch(exchange)
            # A callback that has made this request needs no slot meanwhile.
            with lending():
                self._run_all(exchange)
        finally:
            self.finish(exchange)
            close_old_connections(are_ours=False, keep=blocks)

    def _run_all(self, exchange: Exchange) -> None:
        # What waits for the delivery is late: a client that does not read must
        # not hold the server's thread.
        while self.capacity.ledger.holds(exchange) and not _only_waits(exchange):
            self._woken.silence()
            if self._chains:
                self._run_chain(exchange)
            else:
                exchange.idle_latch().subscribe(self._woken.ring)
                self._woken.wait()

    def finish(self, exchange: Exchange, *, give_way: float = 0.0) -> None:
        self._is_running = False
        try:
            super().finish(exchange, give_way=give_way)
        finally:
            if self._takes_chain():
                self._hand_over(exchange)

    def _takes_chain(self) -> bool:
        try:
            self._chains.pop()
        except IndexError:
            return False
        return True

    def _run_chain(self, exchange: Exchange) -> None:
        is_taken = False
        callback: Callback[Any] | None = None
        try:
            if not (is_taken := self._takes_chain()):
                return
            for callback in (chain := Chain(self, exchange)):
                self._over = None
                if not callback.is_async:
                    self._run_here(exchange, callback)
                if not callback.done():
                    try:
                        self._wait_for(chain, callback)
                    except Exception as error:  # no thread can be started, say
                        chain.lose(callback, error)
                callback = None  # see invoke.call
        except BaseException as error:
            # The server wants its thread back: the others go on without it.
            hand_over = functools.partial(self._hand_over, exchange)
            if self._over is not None:
                self._over.subscribe(hand_over)
            elif is_taken:
                if callback is not None:  # what has raised is ours
                    exchange.settle(callback, CallbackState.FAILED, exception=error)
                hand_over()
            raise

    def _run_here(self, exchange: Exchange, callback: Callback[Any]) -> None:
        timeout = self.timeout_of(callback)
        if timeout is None:
            run_in_thread(exchange, callback, in_server=True)
            return
        # It has this thread until it returns; only then it is said to have been too slow.
        stop = functools.partial(callback._ask_to_stop, CallbackState.TIMED_OUT)
        cancel = self.capacity.timers.call_later(timeout, stop)
        try:
            run_in_thread(exchange, callback, in_server=True)
        finally:
            cancel()
            del callback, stop, cancel  # see invoke.call

    def _hand_over(self, exchange: Exchange) -> None:
        """Let the runner's threads go on with the chain."""
        try:
            self.capacity.submit(Chain(self._runner.thread_dispatcher(), exchange))
        except Exception:
            exchange.reclaim(None)
            self._dispatch_again(exchange)

    def _wait_for(self, chain: Chain, callback: Callback[Any]) -> None:
        alone = Alone(chain)
        self._over = alone.over  # first: a signal handler may raise at any moment
        if self.capacity.background.start(alone, callback):
            alone.over.wait_in_thread()


def _only_waits(exchange: Exchange) -> bool:
    """Whether all that is left waits for something else than the response."""
    queue = exchange.queue
    with exchange.host.ledger.gate.lock:
        return queue.unsettled == len(queue.unready)


def _has_threads() -> bool:
    """Whether threads run while no request is being answered.

    Not on uWSGI without ``--enable-threads``: it keeps the GIL while it waits.
    """
    global _is_told
    uwsgi: Any = sys.modules.get("uwsgi")
    if uwsgi is None:
        return True
    has_threads = bool(uwsgi.opt.get("enable-threads") or uwsgi.opt.get("threads"))
    if not has_threads and not _is_told:
        _is_told = True
        log(
            "warning",
            "uwsgi_without_threads",
            "uWSGI runs without threads, so callbacks run in close(), and the next request waits"
            ' for them. Start it with --enable-threads, or set ASYNC_AFTER["WSGI_LANE"] to'
            ' "inline" to say that this is wanted.',
        )
    return has_threads


_is_told = False
