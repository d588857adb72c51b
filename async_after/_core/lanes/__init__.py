"""Where a callback runs: on an event loop, in the worker threads, on the background loop."""

from .background import BackgroundLoop
from .contexts import ThreadSensitivity
from .coroutine import CANCELLED_TASK, CLOSED_LOOP
from .event_loop import InlineLane, LoopLane
from .invoke import run_in_thread
from .thread_sensitive import SessionExecutor
from .threads import Worker, WorkerPool

__all__ = [
    "CANCELLED_TASK",
    "CLOSED_LOOP",
    "BackgroundLoop",
    "InlineLane",
    "LoopLane",
    "SessionExecutor",
    "ThreadSensitivity",
    "Worker",
    "WorkerPool",
    "run_in_thread",
]
