"""R1: what comes back in at any bytecode, by the thread that is in the middle of a change.

A destructor, a weakref callback, a signal or log handler may run between any two bytecodes.
Here one does, at each of them in turn: it registers, cancels, ends, waits, opens a scope.

A failure says before which bytecode it came back in: ``REENTRY=that`` repeats it alone.
``REENTRY_STRIDE=1`` does all of them, which takes hours (97 takes minutes; a prime, so that loops
are not met at the same point each time).
"""

import os
import time

import pytest

from async_after import Runner
from async_after._core.runner import runner as runner_module
from async_after._core.runtime import process

from .bytecodes import AtBytecode
from .conftest import MakeRunner
from .reentry import DOORS
from .reentry_places import PLACES

ONLY = int(os.environ.get("REENTRY", 0))
STRIDE = int(os.environ.get("REENTRY_STRIDE", 0))
OFFSET = time.time_ns()
THOROUGH = pytest.mark.skipif(not STRIDE, reason="hours: REENTRY_STRIDE=97, say, does a sample")


def once(
    make_runner: MakeRunner,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    door: str,
    number: int,
    **options: int,
) -> AtBytecode:
    """Come back in before this bytecode; all must be well then."""
    way = PLACES[place]
    monkeypatch.setattr(process, "_all", {})  # or each runner that is still there counts
    runner: Runner = make_runner(**way.bounds())
    monkeypatch.setattr(runner_module, "_default", runner)  # scopes have that one
    at = way(runner, DOORS[door])
    try:
        return at.once(number, **options)
    except BaseException as error:
        where = ", ".join(at.last.where[:3]) or "it was not reached"
        what = f"{door}, before bytecode {number} of {place}, {options}"
        error.add_note(f"{what} (REENTRY={number} repeats it): {where}")
        raise


def sweep(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch, place: str, door: str, stride: int
) -> None:
    number, last, reached = 1 + OFFSET % stride, 0, 0
    while (at := once(make_runner, monkeypatch, place, door, number)).where or number < last:
        last = max(last, at.seen)
        number += stride
        reached += 1
    print(f"{place}, {door}: {reached} positions of {at.seen}")
    assert reached >= 6000 // stride


HERE = [place for place in PLACES if place not in ("workers", "background")]
"""Where this thread does it. (What others do is counted together, and hard to repeat.)"""
EACH = pytest.mark.parametrize(("place", "door"), [(p, d) for p in PLACES for d in DOORS])


@pytest.mark.parametrize(("place", "door"), [(p, d) for p in HERE for d in DOORS])
def test_before_a_bytecode(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch, place: str, door: str
) -> None:
    """Before one of them, another each time."""
    once(make_runner, monkeypatch, place, door, ONLY or 1 + OFFSET % 8009)


@EACH
@THOROUGH
@pytest.mark.timeout(4 * 3600)
def test_before_every_bytecode(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch, place: str, door: str
) -> None:
    sweep(make_runner, monkeypatch, place, door, STRIDE)


@THOROUGH
@pytest.mark.parametrize("door", ["register", "register late", "replace", "cancel all", "scope"])
@pytest.mark.parametrize("place", PLACES)
def test_again_and_again(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch, place: str, door: str
) -> None:
    """It comes back in twenty times in one run."""
    every = 211 + OFFSET % 97
    once(make_runner, monkeypatch, place, door, 1 + OFFSET % 1009, every=every, times=20)
