"""Dormant callbacks among others, in any order of events, against a model."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from async_after import Callback, CallbackState
from async_after._core.exchange import Exchange, Options
from async_after._core.exchange.callback import Task

from ..conftest import RecordingHost

PENDING, RUNNING = CallbackState.PENDING, CallbackState.RUNNING
keys = st.sampled_from([None, None, None, "a"])


class Known:
    """What the model knows of one callback."""

    def __init__(self, callback: Callback[Any], number: int, is_dormant: bool) -> None:
        self.callback = callback
        self.number = number
        self.is_dormant = is_dormant
        self.state = PENDING


class DormantMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.host = RecordingHost()
        self.exchange = Exchange(self.host, "GET", "/x")
        self.exchange.request = object()
        self.known: list[Known] = []
        self.keyed: dict[object, Known] = {}
        self.line: list[Known] = []
        self.concurrent: list[Known] = []
        self.chain = "none"
        self.has_ended = False
        self.is_claimed = False
        self.is_through = False

    # What the user does.

    @rule(is_dormant=st.booleans(), concurrent=st.booleans(), key=keys)
    def register(self, is_dormant: bool, concurrent: bool, key: object) -> None:
        task: Task = print, (), {}
        options = Options(concurrent=concurrent, key=key)
        callback: Callback[Any] = Callback(self.exchange, "name", options, False, task)
        dispatched = self.host.dispatched
        self.exchange.add(callback, dormant=is_dormant)
        new = Known(callback, len(self.known), is_dormant)
        self.known.append(new)
        if key is not None:
            replaced = self.keyed.get(key)
            if replaced is not None and replaced.state is PENDING:
                self.over(replaced, CallbackState.CANCELLED)
            self.keyed[key] = new
        if is_dormant:
            assert self.host.dispatched == dispatched, "nobody is to run it"
        else:
            assert (self.host.dispatched > dispatched) is self.join(new)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        """Of any of them: of one that has run, was skipped or cancelled, too."""
        known = data.draw(st.sampled_from(self.known))
        dispatched = self.host.dispatched
        self.exchange.ready(known.callback)
        if known.is_dormant and known.state is PENDING:
            known.is_dormant = False
            assert (self.host.dispatched > dispatched) is self.join(known)
        else:
            assert self.host.dispatched == dispatched

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(self.known))
        self.exchange.skip_dormant(known.callback)
        if known.is_dormant and known.state is PENDING:
            self.over(known, CallbackState.SKIPPED)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        known = data.draw(st.sampled_from(self.known))
        was_pending = known.state is PENDING
        assert known.callback.cancel() is was_pending
        if was_pending:
            self.over(known, CallbackState.CANCELLED)

    # What the adapter and the runner do.

    @precondition(lambda self: not self.has_ended)
    @rule()
    def end(self) -> None:
        self.exchange.start(200, ())
        self.exchange.complete()
        has_callbacks = bool(self.awake())
        assert self.exchange.end() is has_callbacks
        self.has_ended = True
        if not has_callbacks:
            self.chain = "none"
            self.is_claimed = True

    @precondition(lambda self: self.has_ended)
    @rule(few=st.integers(1, 3))
    def run(self, few: int) -> None:
        """Take what there is to run, and run some of it."""
        self.is_claimed = True
        for claim in self.exchange.claim():
            if claim is None:
                assert self.chain == "unclaimed"
                self.chain = "held"
            else:
                assert claim in [known.callback for known in self.concurrent]
        for known in [k for k in self.concurrent if k.state is PENDING]:
            assert self.exchange.next(None, known.callback) is not None
            self.settle(known)
        self.concurrent.clear()
        for _ in range(few):
            callback = self.exchange.next() if self.chain == "held" else None
            self.line = [known for known in self.line if known.state is PENDING]
            if not self.line:
                assert callback is None, "handed out, and not in the line"
                if self.chain == "held":
                    assert self.exchange.give_back()
                    self.chain = "none"
                return
            known = self.line.pop(0)
            assert callback is known.callback, "not in its place"
            self.settle(known)

    # The model.

    def join(self, known: Known) -> bool:
        """It goes to its place by number, or late to the end; whether it is dispatched."""
        if known.callback.options.concurrent:
            self.concurrent.append(known)
            return self.is_claimed
        place = len(self.line)
        while not self.is_claimed and place and self.line[place - 1].number > known.number:
            place -= 1
        self.line.insert(place, known)
        is_new, self.chain = self.chain == "none", self.chain.replace("none", "unclaimed")
        return self.is_claimed and is_new

    def over(self, known: Known, state: CallbackState) -> None:
        known.state = state

    def settle(self, known: Known) -> None:
        assert self.has_ended, "started before the end (promise 1)"
        known.state = RUNNING
        assert self.exchange.settle(known.callback, CallbackState.SUCCEEDED)
        known.state = CallbackState.SUCCEEDED

    def awake(self) -> list[Known]:
        return [k for k in self.known if k.state is PENDING and not k.is_dormant]

    def asleep(self) -> list[Known]:
        return [k for k in self.known if k.state is PENDING and k.is_dormant]

    # What holds at any time.

    @invariant()
    def each_is_accounted_for(self) -> None:
        assert [k.callback.state for k in self.known] == [k.state for k in self.known]
        ended = [known.callback for known in self.known if known.callback.done()]
        assert sorted(map(id, self.host.ended)) == sorted(map(id, ended))

    @invariant()
    def who_waits_and_who_is_waited_for(self) -> None:
        assert {*self.exchange.pending()} == {known.callback for known in self.awake()}
        assert {*self.exchange.dormant()} == {known.callback for known in self.asleep()}
        queue = self.exchange._queue
        assert queue is None or len(queue.unready) == len(self.asleep()), "it keeps more"
        assert self.host.is_busy is bool(self.awake())
        assert self.host.waiting == (len(self.awake()) if self.is_claimed else 0)

    @invariant()
    def it_keeps_what_is_needed(self) -> None:
        """Promise 15, discreet."""
        if self.has_ended and not self.awake() and not self.asleep():
            self.is_through = True  # for good
        assert (self.exchange.request is None) is self.is_through

    def teardown(self) -> None:
        """However far it got: everything has been run or accounted for."""
        if not hasattr(self, "host"):
            return
        if not self.has_ended:
            self.end()
        for known in self.asleep():
            assert self.exchange.drop(known.callback, "shutdown", if_pending=True)
            known.state = CallbackState.DROPPED
        while self.awake():
            self.run(len(self.known))
        assert all(known.callback.done() for known in self.known), "lost (promise 2)"
        self.it_keeps_what_is_needed()


@pytest.mark.exhaustive
def test_any_sequence() -> None:
    """Promises 1, 2 and 6; the same sequences in each run."""
    run_state_machine_as_test(
        DormantMachine,
        settings=settings(
            max_examples=300,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
        ),
    )
