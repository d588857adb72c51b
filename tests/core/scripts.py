"""Scripts that run in a process of their own, for what ends or forks one."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

TOO_LONG = 15.0
"""Seconds; less than the default ``wait_timeout``, more than any of these needs."""

PRELUDE = '''
import async_after
from async_after import *
import asyncio, atexit, contextlib, gc, os, signal, sys, threading, time
from async_after._core.exchange import Exchange, current_exchange

DEADLINE = 10.0
in_background = after_response.using(lane="background")
concurrently = after_response.using(concurrent=True)


def loop_exchange(runner):
    return Exchange(runner.dispatcher(asyncio.get_running_loop()), "GET", "/x")


def thread_exchange(runner):
    return Exchange(runner.thread_dispatcher(), "GET", "/x")


@contextlib.contextmanager
def entered(exchange):
    token = current_exchange.set(exchange)
    try:
        yield exchange
    finally:
        current_exchange.reset(token)


@contextlib.contextmanager
def responding(exchange):
    with entered(exchange):
        yield exchange
    exchange.start(200, ())
    exchange.complete()
    if exchange.end():
        exchange.host.dispatch(exchange)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())


def is_exiting():
    return threading._SHUTTING_DOWN


def until_exit(word="", seconds=DEADLINE):
    """A plain function that ends when the main thread is at its end."""
    deadline = time.monotonic() + seconds
    while not is_exiting() and time.monotonic() < deadline:
        time.sleep(0.001)
    say(word, "at exit" if is_exiting() else "too early")


async def auntil_exit(word=""):
    while not is_exiting():
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    say(word, "at exit")


async def forever():
    await asyncio.Event().wait()


async def coroutine(word=""):
    await asyncio.sleep(0)
    if word:
        say(word)


def at_the_very_end(*callbacks):
    """Say what became of them, after all else."""
    atexit.register(lambda: say(*(callback.state.name for callback in callbacks)))


def all_kinds(runner):
    """Run a callback of each kind, in a loop of its own."""
    async def main():
        with responding(loop_exchange(runner)):
            callbacks = [
                after_response(coroutine),
                after_response(int),
                after_response.using(timeout=DEADLINE)(int),
                in_background(coroutine),
                concurrently(coroutine),
                concurrently(int),
            ]
        with responding(thread_exchange(runner)):
            callbacks += [after_response(coroutine), after_response(int), in_background(coroutine)]
        await runner.drain(DEADLINE)
        async with exchange_scope():
            callbacks += [after_response(coroutine)]
        return callbacks

    callbacks = asyncio.run(main())
    with exchange_scope():
        callbacks += [after_response(int), after_response(coroutine)]
    assert {c.state.name for c in callbacks} == {"SUCCEEDED"}, callbacks
'''


@dataclass
class Done:
    code: int
    out: list[str]
    err: str

    @property
    def named(self) -> list[str]:
        """Those that the log says were dropped, in order of their names."""
        lines = [line for line in self.err.splitlines() if " was dropped: " in line]
        return sorted(line.split()[1].rpartition(".")[2] for line in lines)


def run(script: str, *options: str) -> Done:
    """Run it to its end; what it said, and its log (on stderr)."""
    done = subprocess.run(
        [sys.executable, *options, "-c", PRELUDE + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TOO_LONG,
        check=False,
    )
    return Done(done.returncode, done.stdout.splitlines(), done.stderr)
