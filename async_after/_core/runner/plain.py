"""Plain functions, in the runner's threads.

Promise 2, once_or_accounted: whatever is raised where they are run, each is settled, and those
behind it go on.
"""

import functools
from typing import Any

from ..capacity import Capacity, Chain, Starter
from ..exchange import Callback, CallbackState, Exchange, Lane
from ..lanes import Worker, run_in_thread

_THREADS: tuple[Lane, ...] = ("threads",)


class PlainFunctions:
    """Those of one dispatcher, which is the ``starter`` of their chains."""

    def __init__(self, capacity: Capacity, starter: Starter) -> None:
        self._capacity = capacity
        self._starter = starter
        self._running: dict[Callback[Any], tuple[Chain, Worker, int]] = {}
        """Those that run now, and where."""
        self.threadless: dict[Exchange, list[Chain]] = {}
        """Chains that wait for a thread; who takes one out of its list goes on with it."""

    def start(self, chain: Chain) -> bool:
        """``False`` if it waits for a thread: without its slot, which it takes when it has one."""
        waiting = [chain]
        begin, wait = functools.partial(self._work, chain), functools.partial(self._wake, waiting)
        pool, has_waited = self._capacity.pool, chain.has_waited
        if pool.submit(begin, chain.advance, (wait, wait), first=has_waited):
            try:
                chain.set_out()
            except Exception:  # it is on its way all the same
                gate = self._capacity.ledger.gate
                gate.asked.append(chain.set_out)
                gate.hurry()
            return True
        if not chain.is_single:
            self.threadless[chain.exchange] = waiting
            self.reconsider(chain.exchange)
        return False

    def reconsider(self, exchange: Any) -> None:
        """Does its chain still wait for a thread? The plain one that was next may have ended."""
        waiting = self.threadless.get(exchange)
        ledger = self._capacity.ledger
        if waiting is None or (waiting and exchange.queue.is_next(ledger, _THREADS)):
            return
        self.threadless.pop(exchange, None)
        try:
            chain = waiting.pop()
        except IndexError:  # a worker has just become free
            return
        self._submit(chain)

    def _submit(self, chain: Chain) -> None:
        try:
            self._capacity.submit(chain)
        except Exception:
            gate = self._capacity.ledger.gate
            gate.asked.append(functools.partial(self._capacity.submit, chain))
            gate.hurry()

    def _wake(self, waiting: list[Chain]) -> None:
        """In a worker that has become free."""
        try:
            chain = waiting.pop()
        except IndexError:  # it has gone on without
            return
        has_slot = False
        try:
            self.threadless.pop(chain.exchange, None)
            slots = self._capacity.limiter
            if has_slot := slots.take():
                self._work(chain)
            else:
                chain.has_waited = True
                self._capacity.pool.announce_end()
                slots.submit(chain, first=True)
        except Exception:
            if has_slot:
                self._advance(chain)
            else:
                self._submit(chain)

    def _work(self, chain: Chain) -> None:
        """In a worker: run those that are next."""
        chain.has_waited = False
        worker, turn = self._capacity.pool.current_turn()
        callback = chain.take(_THREADS)
        while callback is not None:
            self._running[callback] = chain, worker, turn
            try:
                self._run(chain, callback)
            except Exception as error:  # of ours
                self._finish(chain, callback, CallbackState.FAILED, None, error)
            if chain.finished is callback:
                chain.finished = None
                callback = chain.following
                if callback is None and chain.is_over:
                    return
                callback = callback or chain.take(_THREADS)
                continue
            if self._running.pop(callback, None) is None:
                # It was given up: those behind it went on at that moment.
                if callback._returned is not None:
                    callback._discard(callback._returned)
                return
            if callback._returned is not None:
                try:
                    if self._starter.start_async(chain, callback):
                        return
                except Exception as error:
                    chain.lose(callback, error)
            callback = chain.take(_THREADS)
        self._capacity.pool.announce_end()
        self._advance(chain)

    def _advance(self, chain: Chain) -> None:
        try:
            chain.advance()
        except Exception:
            self._capacity.limiter.go_again(chain)

    def _finish(
        self,
        chain: Chain,
        callback: Callback[Any],
        state: CallbackState,
        result: Any = None,
        error: BaseException | None = None,
    ) -> None:
        """It has returned: settle it, and take the next one; unless it was given up."""
        if (where := self._running.pop(callback, None)) is not None:
            chain.finished, chain.following, chain.is_over = callback, None, False
            settle = chain.exchange.settle
            try:
                settle(callback, state, result, error, None, None, chain, _THREADS)
            except Exception:  # it runs on, and is settled by who hears of that
                self._running[callback] = where
                raise

    def _run(self, chain: Chain, callback: Callback[Any]) -> None:
        timeout = self._capacity.timeout_of(callback)
        finish = functools.partial(self._finish, chain)
        try:
            if timeout is None:
                run_in_thread(chain.exchange, callback, finish)
                return
            # By the dispatcher, so that there is one door.
            give_up = functools.partial(self._starter.give_up, callback, CallbackState.TIMED_OUT)
            cancel = self._capacity.timers.call_later(timeout, give_up)
            try:
                run_in_thread(chain.exchange, callback, finish)
            finally:
                cancel()
        finally:
            callback = give_up = cancel = None  # type: ignore[assignment]  # see invoke.call

    def give_up(
        self, callback: Callback[Any], state: CallbackState, reason: str | None = None
    ) -> None:
        """A thread cannot be killed. The callback is accounted for, the others
        go on, and another worker takes this one's place."""
        # Whoever takes it out lets its chain go on: this, or its worker.
        chain, worker, turn = self._running.pop(callback, (None, None, 0))
        try:
            callback._owner.settle(callback, state, reason=reason)
            if worker is not None:
                self._capacity.pool.overdue(worker, turn, callback.name)
        finally:
            callback._owner.settle(callback, state, reason=reason)  # if it could not be
            if chain is not None:
                self._advance(chain)
