"""A process of ``--before``: ``python -m bench.before_worker dispatch``, or ``idle``.

Tells where its package is, and then what it measures whenever it is asked.
"""

import asyncio
import json
import sys
from importlib import import_module
from pathlib import Path

import async_after

if __name__ == "__main__":
    sample = import_module(f"bench.{sys.argv[1]}").sample
    with asyncio.Runner() as runner:
        runner.run(sample())  # warm-up
        print(json.dumps(str(Path(async_after.__file__).parent)), flush=True)
        for _ in sys.stdin:
            print(json.dumps(runner.run(sample())), flush=True)
