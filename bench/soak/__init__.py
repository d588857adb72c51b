"""Is any callback lost, and is anything left behind, under everything at once?

One uvicorn process, clients that close, reset, stall, cut and pipeline at
random, and callbacks that succeed, raise everything there is, cancel
themselves, time out, recurse, register more, wait, and write to a database.
Ends with the sums, the leaks and a SIGTERM; exit code 1 if anything is wrong.
"""

from .command import add_arguments, run

__all__ = ["add_arguments", "run"]
