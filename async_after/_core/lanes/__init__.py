"""Where a callback runs: on an event loop, in the worker threads, on the background loop."""

from .background import BackgroundLoop
from .cleanup import close_old_connections, open_blocks
from .contexts import ThisThread, loop_of_this_thread
from .coroutine import CANCELLED_TASK
from .event_loop import InlineLane, LoopLane
from .invoke import note, run_in_thread
from .losing import CLOSED_LOOP
from .surroundings import ThreadSensitivity
from .thread_sensitive import SessionExecutor
from .threads import WorkerPool
from .worker import Worker

__all__ = [
    "CANCELLED_TASK",
    "CLOSED_LOOP",
    "BackgroundLoop",
    "InlineLane",
    "LoopLane",
    "SessionExecutor",
    "ThisThread",
    "ThreadSensitivity",
    "Worker",
    "WorkerPool",
    "close_old_connections",
    "loop_of_this_thread",
    "note",
    "open_blocks",
    "run_in_thread",
]
