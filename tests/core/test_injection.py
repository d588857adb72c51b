"""R3: whatever is raised on a callback's way, it has an end, and its place is given back.

A RecursionError or a MemoryError comes at the n-th entry of a function of the core: no phantom
callback, no lost place, and all that waits comes to an end. A failure says at which entry:
``INJECTION=that`` repeats it alone; ``INJECTION_STRIDE=1`` does all of them.
"""

import gc
import os
import traceback
from collections.abc import Iterator

import pytest

from async_after import Runner
from async_after._core.runner import runner as runner_module
from async_after._core.runtime import process

from .injection import PLACES, Way

ONLY = int(os.environ.get("INJECTION", 0))
STRIDE = int(os.environ.get("INJECTION_STRIDE", 47))
NEVER = 10**9

# The traceback of an exception in a thread, or behind a log line, is what this is about.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody reads what is logged here, some megabytes of it."""
    with monkeypatch.context() as patch:
        patch.setattr(traceback, "print_exc", lambda: None)
        yield


def once(place: str, number: int) -> Way:
    kind = RecursionError if number % 2 else MemoryError
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_all", {})  # or each runner that is still there counts
        runner = Runner(**PLACES[place].bounds())
        patch.setattr(runner_module, "_default", runner)  # scopes have that one
        way = PLACES[place](runner)
        try:
            way.once(number, kind("injected"))
        except BaseException as failure:
            where = way.last.where or "it was not reached"
            failure.add_note(
                f"{kind.__name__} at entry {number} of {place} (INJECTION={number}): {where}"
            )
            raise
    return way


def sweep(place: str, number: int, stride: int) -> None:
    once(place, NEVER)  # the first one does more than others
    numbers = range(number, once(place, NEVER).last.seen, stride)
    reached = sum(bool(once(place, each).last.where) for each in numbers)
    # Another thread may do what this one has done before.
    assert reached > 0.5 * len(numbers)
    assert 0.8 * len(numbers) > 300 // stride


@pytest.mark.parametrize("place", PLACES)
def test_at_an_entry(place: str) -> None:
    """At a sample of them."""
    if ONLY:
        once(place, ONLY)
    else:
        sweep(place, 1, STRIDE)
    gc.collect()  # a loop whose thread has died is not closed: here, and in no other test
