"""The exchange as a pure state machine, against models that know only its words."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
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

from async_after import Callback, CallbackState, Completion, Outcome
from async_after._core.exchange import Exchange, Options
from async_after._core.exchange.callback import Task

from ..conftest import RecordingHost

PENDING, RUNNING, CANCELLED = (
    CallbackState.PENDING,
    CallbackState.RUNNING,
    CallbackState.CANCELLED,
)
FINAL = [state for state in CallbackState if state not in (PENDING, RUNNING)]


# What happened to the response, as the adapter of a server would tell it.


@dataclass(frozen=True)
class Start:
    status: int
    headers: Sequence[tuple[bytes, bytes]]
    trailers: bool


@dataclass(frozen=True)
class Body:
    size: int | None
    last: bool
    fate: str
    disconnect_meanwhile: bool


@dataclass(frozen=True)
class LastTrailers:
    fate: str
    disconnect_meanwhile: bool


@dataclass(frozen=True)
class Disconnect:
    pass


Event = Start | Body | LastTrailers | Disconnect


@dataclass(frozen=True)
class Expected:
    completion: Completion
    status: int | None
    headers: tuple[tuple[str, str], ...]
    body_bytes: int | None
    has_first_byte: bool


def expected_outcome(method: str, log: list[Event]) -> Expected:
    """The outcome by the words of DESIGN.md, from the log of all that happened."""
    if not log or not isinstance(log[0], Start):
        left = Completion.DISCONNECTED if Disconnect() in log else Completion.FAILED
        if not any(isinstance(event, Start) for event in log):
            return Expected(left, None, (), 0, False)
    start = next(event for event in log if isinstance(event, Start))
    bodiless = method == "HEAD" or start.status in (204, 304)
    length = None
    if not bodiless and not start.trailers:
        length = next((int(v) for n, v in start.headers if n.lower() == b"content-length"), None)

    accepted: list[int | None] = []
    is_sent = has_left = is_last_with_server = False
    for event in log:
        completes = meanwhile = False
        fate = ""
        match event:
            case Disconnect():
                meanwhile = True
            case LastTrailers(fate, meanwhile):
                completes = True
            case Body(size, last, fate, meanwhile):
                after = sum(n or 0 for n in [*accepted, size]) if None not in accepted else size
                all_bytes = length is not None and (after or 0) >= length
                completes = not start.trailers and (last or all_bytes)
        is_last_with_server = is_last_with_server or completes
        if (meanwhile and not is_last_with_server) or fate == "refused":
            has_left = has_left or not is_sent
        if fate == "accepted" or (fate == "cancelled" and completes):
            is_sent = is_sent or (completes and not has_left)
            if isinstance(event, Body):
                accepted.append(event.size)
    body_bytes = None if None in accepted else sum(n or 0 for n in accepted)
    if length is not None and body_bytes is not None and body_bytes >= length and not has_left:
        is_sent = True
    if is_sent:
        completion = Completion.SENT
    else:
        completion = Completion.DISCONNECTED if has_left else Completion.FAILED
    headers = tuple((name.decode().lower(), value.decode()) for name, value in start.headers)
    return Expected(
        completion, start.status, headers, 0 if bodiless else body_bytes, bool(accepted)
    )


fates = st.sampled_from(["accepted", "accepted", "accepted", "refused", "cancelled", "broken"])
keys = st.sampled_from([None, None, "a", "b"])


class Record:
    """What the model knows of one callback."""

    def __init__(self, callback: Callback[Any]) -> None:
        self.callback = callback
        self.state = PENDING
        self.started = False


class RecordingTurn:
    is_single = is_over = False
    starter = SimpleNamespace(is_shut=False)
    following: Callback[Any] | None = None

    def give_back(self) -> None:
        assert not self.is_over
        self.is_over = True

    def advance(self) -> None:
        raise NotImplementedError


class ExchangeMachine(RuleBasedStateMachine):
    """Any order of the five events, registrations, cancellations and hand-outs."""

    @initialize(method=st.sampled_from(["GET", "GET", "GET", "HEAD"]))
    def begin(self, method: str) -> None:
        self.host = RecordingHost()
        self.exchange = Exchange(self.host, method, "/x")
        self.log: list[Event] = []
        self.has_ended = self.is_claimed = False
        self.error: BaseException | None = None
        self.expected: Expected | None = None
        self.sealed: Outcome | None = None
        self.records: list[Record] = []
        self.keyed: dict[object, Record] = {}
        self.unclaimed: list[Record] = []
        self.chain = "none"
        self.singles: list[Record] = []

    # The five events. They may come after the end too: an app's task that
    # has outlived it goes on receiving and sending.

    def tell(self, event: Event) -> None:
        if not self.has_ended:
            self.log.append(event)

    @property
    def response(self) -> Start | None:
        return next((event for event in self.log if isinstance(event, Start)), None)

    @precondition(lambda self: self.response is None)
    @rule(
        status=st.sampled_from([200, 200, 204, 304, 500]),
        length=st.sampled_from([None, b"0", b"3", b"5", b" 5 "]),
        trailers=st.booleans(),
    )
    def start(self, status: int, length: bytes | None, trailers: bool) -> None:
        headers = [(b"X-Name", b"v")]
        if length is not None:
            headers.append((b"Content-Length", length))
        self.exchange.start(status, headers, trailers=trailers)
        self.tell(Start(status, headers, trailers))

    @precondition(lambda self: self.response is not None)
    @rule(
        size=st.sampled_from([0, 1, 2, 3, 5, None]),
        last=st.booleans(),
        fate=fates,
        meanwhile=st.booleans(),
    )
    def body(self, size: int | None, last: bool, fate: str, meanwhile: bool) -> None:
        completes = self.exchange.offer(size or 0, last=last)
        if meanwhile:
            self.exchange.disconnect()
        if fate == "refused":
            self.exchange.refuse(OSError())
        elif fate == "accepted" or (fate == "cancelled" and completes):
            self.exchange.body(size, completes=completes)
        self.tell(Body(size, last, fate, meanwhile))

    @precondition(lambda self: self.response is not None and self.response.trailers)
    @rule(fate=fates, meanwhile=st.booleans())
    def trailers(self, fate: str, meanwhile: bool) -> None:
        self.exchange.offer_last()
        if meanwhile:
            self.exchange.disconnect()
        if fate == "refused":
            self.exchange.refuse(OSError())
        elif fate in ("accepted", "cancelled"):
            self.exchange.complete()
        self.tell(LastTrailers(fate, meanwhile))

    @rule()
    def disconnect(self) -> None:
        self.exchange.disconnect()
        self.tell(Disconnect())

    @rule(fails=st.booleans())
    def end(self, fails: bool) -> None:
        error = ValueError() if fails else None
        has_callbacks = any(record.state is PENDING for record in self.records)
        answer = self.exchange.end(error)
        assert answer is (has_callbacks and not self.has_ended), "only the first end counts"
        if not self.has_ended:
            self.has_ended = True
            self.error = error
            self.expected = expected_outcome(str(self.exchange.method), self.log)
            if not has_callbacks:
                self.unclaimed, self.chain, self.is_claimed = [], "none", True

    # Callbacks.

    @rule(concurrent=st.booleans(), key=keys)
    def register(self, concurrent: bool, key: object) -> None:
        task: Task = print, (), {}
        options = Options(concurrent=concurrent, key=key)
        dispatched = self.host.dispatched
        callback: Callback[Any] = Callback(self.exchange, "name", options, False, task)
        self.exchange.add(callback)

        record = Record(callback)
        self.records.append(record)
        if key is not None:
            replaced = self.keyed.get(key)
            if replaced is not None and replaced.state is PENDING:
                replaced.state = CANCELLED
            self.keyed[key] = record
        is_claimable = concurrent or self.chain == "none"
        if concurrent:
            self.unclaimed.append(record)
        elif self.chain == "none":
            self.chain = "unclaimed"
        # A late callback is dispatched, unless its chain is being taken just now. What comes
        # between the end and the first claim goes with the others.
        assert self.host.dispatched - dispatched == (self.is_claimed and is_claimable)

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        record = data.draw(st.sampled_from(self.records))
        had_not_started = record.state is PENDING
        assert record.callback.cancel() is had_not_started
        if had_not_started:
            record.state = CANCELLED

    @rule()
    def claim(self) -> None:
        claims = self.exchange.claim()
        if not self.has_ended:
            assert claims == [], "handed out before the end (promise 1)"
            return
        self.is_claimed = True
        assert claims.count(None) == (self.chain == "unclaimed")
        if self.chain == "unclaimed":
            self.chain = "held"
        alive = [claim for claim in claims if claim is not None and not claim.done()]
        assert alive == [r.callback for r in self.unclaimed if r.state is PENDING]
        self.singles += self.unclaimed
        self.unclaimed = []

    @precondition(lambda self: self.singles)
    @rule()
    def start_concurrent(self) -> None:
        record = self.singles.pop(0)
        can_start = record.state is PENDING
        assert (self.exchange.next(None, record.callback) is not None) is can_start
        if can_start:
            self.started(record)

    @precondition(lambda self: self.chain == "held" and not self.is_chain_running())
    @rule()
    def next(self) -> None:
        record = next((r for r in self.sequential() if r.state is PENDING), None)
        callback = self.exchange.next()
        if record is None:
            assert callback is None
            assert self.exchange.give_back()
            self.chain = "none"
        else:
            assert callback is record.callback, "not first-in, first-out (promise 6)"
            self.started(record)
            if any(r.state is PENDING for r in self.sequential()):
                assert not self.exchange.give_back(), "there are more"

    @precondition(lambda self: self.chain == "held" and self.is_chain_running())
    @rule(state=st.sampled_from(FINAL))
    def finish(self, state: CallbackState) -> None:
        """The one has ended, and the next one begins in its place, if it may there."""
        [ended] = [record for record in self.sequential() if record.state is RUNNING]
        following = next((r for r in self.sequential() if r.state is PENDING), None)
        turn = RecordingTurn()
        assert self.exchange.settle(ended.callback, state, turn=turn, lanes=["threads"])
        ended.state = state
        assert turn.is_over is (following is None)
        if following is None:
            assert turn.following is None
            self.chain = "none"
        else:
            assert turn.following is following.callback, "not first-in, first-out (promise 6)"
            self.started(following)

    @precondition(lambda self: any(r.state is RUNNING for r in self.records))
    @rule(data=st.data(), state=st.sampled_from(FINAL))
    def settle(self, data: st.DataObject, state: CallbackState) -> None:
        running = [record for record in self.records if record.state is RUNNING]
        record = data.draw(st.sampled_from(running))
        assert self.exchange.settle(record.callback, state)
        assert not self.exchange.settle(record.callback, CallbackState.FAILED), "ended twice"
        record.state = state

    @precondition(lambda self: any(r.state is PENDING for r in self.records))
    @rule()
    def drop_pending(self) -> None:
        """What a runner does at shutdown."""
        for callback in self.exchange.pending():
            settled = self.exchange.settle(callback, CallbackState.DROPPED, expected=PENDING)
            assert settled
        for record in self.records:
            if record.state is PENDING:
                record.state = CallbackState.DROPPED

    def sequential(self) -> list[Record]:
        return [r for r in self.records if not r.callback.options.concurrent]

    def is_chain_running(self) -> bool:
        return any(record.state is RUNNING for record in self.sequential())

    def started(self, record: Record) -> None:
        assert self.has_ended, "started before the end (promise 1)"
        assert not record.started, "handed out twice (promise 2)"
        record.started = True
        record.state = RUNNING
        self.check_outcome(self.exchange.sealed)

    # What holds at any time.

    @invariant()
    def every_callback_is_accounted_for(self) -> None:
        """Promise 2: the sum is kept, and each end is told once."""
        assert [r.callback for r in self.records] == self.host.heard_of
        assert [r.callback.state for r in self.records] == [r.state for r in self.records]
        ended = [record.callback for record in self.records if record.callback.done()]
        assert len(self.host.ended) == len(ended)
        assert set(map(id, self.host.ended)) == set(map(id, ended))
        assert self.host.is_busy is (len(ended) < len(self.records))

    @invariant()
    def outcome_is_there_after_the_end_only(self) -> None:
        assert self.exchange.is_ended is self.has_ended
        if not self.has_ended:
            assert self.exchange.outcome is None

    @precondition(lambda self: self.has_ended)
    @rule()
    def look_at_the_outcome(self) -> None:
        """A rule and no invariant: looking must not be what seals it."""
        self.check_outcome(self.exchange.outcome)

    def check_outcome(self, outcome: Outcome | None) -> None:
        """Promise 7."""
        assert outcome is not None
        assert self.expected is not None
        assert self.sealed is None or outcome is self.sealed, "another outcome than before"
        self.sealed = outcome
        seen = Expected(
            outcome.completion,
            outcome.status,
            outcome.headers,
            outcome.body_bytes,
            outcome.time_to_first_byte is not None,
        )
        assert seen == self.expected
        assert outcome.error is self.error
        assert (outcome.method, outcome.path) == (self.exchange.method, "/x")
        assert outcome.started_at.utcoffset() is not None
        assert 0 <= (outcome.time_to_first_byte or 0) <= outcome.duration

    def teardown(self) -> None:
        """However far it got: ended and emptied, everything has been run or accounted for."""
        if not hasattr(self, "host"):
            return
        self.end(fails=False)
        for record in self.records:
            if record.state is RUNNING:
                self.exchange.settle(record.callback, CallbackState.SUCCEEDED)
                record.state = CallbackState.SUCCEEDED
        self.claim()
        while self.singles:
            self.start_concurrent()
        while self.chain == "held":
            self.next()
            for record in self.sequential():
                if record.state is RUNNING:
                    self.exchange.settle(record.callback, CallbackState.SUCCEEDED)
                    record.state = CallbackState.SUCCEEDED
        for record in self.records:
            if record.state is RUNNING:
                self.exchange.settle(record.callback, CallbackState.SUCCEEDED)
                record.state = CallbackState.SUCCEEDED
        assert all(record.callback.done() for record in self.records), "lost (promise 2)"
        assert self.exchange.pending() == []
        self.every_callback_is_accounted_for()
        self.check_outcome(self.exchange.outcome)


@pytest.mark.exhaustive
def test_any_sequence() -> None:
    """Promises 1, 2, 6 and 7 in any order of events, the same ones in each run."""
    run_state_machine_as_test(
        ExchangeMachine,
        settings=settings(
            max_examples=300,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
        ),
    )
