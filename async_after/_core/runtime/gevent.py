"""gevent makes greenlets of threads: what then needs a real one, and the way back.

An event loop in a greenlet would answer ``asyncio.get_running_loop()`` in every
greenlet of its thread, and Django refuse the ORM in all views. So a loop has a
thread that gevent has not patched. Worker greenlets, timers and what waits for
them belong to one hub, their home, and are started there only.
"""

import _thread
import asyncio
import functools
import sys
import threading
from _thread import LockType
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any

from .loop import running_loop


def is_patched() -> bool:
    """Whether gevent has made greenlets of this process's threads."""
    monkey: Any = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def _original(module: str, name: str) -> Any:
    """What gevent has patched away."""
    monkey: Any = sys.modules["gevent.monkey"]
    return monkey.get_original(module, name)


def start_native_thread(function: Callable[[], object]) -> None:
    _original("_thread", "start_new_thread")(function, ())


def native_lock() -> LockType:
    lock: LockType = _original("_thread", "allocate_lock")()
    return lock


class Hub:
    """The hub of the thread that makes this: others call functions there."""

    def __init__(self) -> None:
        self._gevent: Any = sys.modules["gevent"]
        self._hub: Any = self._gevent.get_hub()

    def is_here(self) -> bool:
        return self._gevent.get_hub() is self._hub

    def call(self, function: Callable[[], object]) -> None:
        """Call it in a greenlet of the hub, in the order of these calls. Any thread may."""
        self._hub.loop.run_callback_threadsafe(self._gevent.spawn, function)


_home: Hub | None = None


def make_home() -> None:
    """Under gevent, let this hub be the home, if there is none: it is a server's."""
    global _home
    if _home is None and is_patched():
        _home = Hub()


def home() -> Hub | None:
    """Under gevent the hub where all worker greenlets are: the server's, or the main thread's."""
    if _home is None and is_patched():
        if threading.get_native_id() != threading.main_thread().native_id:
            return Hub()
        make_home()
    return _home


def forget_home() -> None:
    """In a process that was forked off: its server has another one."""
    global _home
    _home = None


def wait_for(event: threading.Event) -> None:
    """Wait for what a native thread may tell.

    With a timer, as gevent raises ``LoopExit`` where nothing in its hub could
    ever wake anybody: it does not see native threads.
    """
    while not event.wait(3600):
        pass


def go_home(function: Callable[[], object]) -> bool:
    """Let ``function`` be called where greenlets are run; ``False`` if that is here.

    A thread that is started in a native thread, which has no use for its own
    hub, is a greenlet that nobody ever runs.
    """
    hub = home()
    if hub is None or hub.is_here():
        return False
    hub.call(function)
    return True


has_native_loops: bool = False
"""Whether there ever was one in this process."""


class NativeLoop(asyncio.SelectorEventLoop):
    """An event loop that needs no greenlet, made in its own native thread.

    gevent replaces the selectors, and the threads of executors: those would
    be greenlets of this very thread, which never gets round to them.
    """

    def __init__(self) -> None:
        global has_native_loops
        has_native_loops = True
        name = "EpollSelector" if sys.platform == "linux" else "SelectSelector"
        super().__init__(_original("selectors", name)())

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> "asyncio.Future[Any]":
        """Name resolution, ``asyncio.to_thread``: a native thread for each call."""
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        future = self.create_future()

        def run() -> None:
            try:
                settle = functools.partial(future.set_result, func(*args))
            except BaseException as error:
                settle = functools.partial(future.set_exception, error)
            try:
                self.call_soon_threadsafe(lambda: None if future.done() else settle())
            except RuntimeError:  # it is closed, and nobody waits any more
                pass
            # What waited here, a name's resolution say, did so in a hub of this thread:
            # its files, and the hub's own threads, would stay.
            sys.modules["gevent"].get_hub().destroy()

        start_native_thread(run)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""


def start_thread(function: Callable[[], object]) -> None:
    """Call it in a thread, or a greenlet, that holds no lock of ours: the
    caller, a destructor say, may. At the end of the interpreter there is none."""
    if not go_home(function):
        try:
            _thread.start_new_thread(function, ())
        except RuntimeError:
            pass


def is_native() -> bool:
    """Whether this is called on such a loop: no thread can be asked there."""
    return isinstance(running_loop(), NativeLoop)


def run_in_native_thread(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it on a loop of its own, and wait: a greenlet lets the others go on."""

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=NativeLoop) as runner:
                runner.run(function())
        finally:
            if hub is None:
                done.release()
            else:
                hub.call(event.set)

    hub = None if is_native() else home()
    event = threading.Event()
    done = native_lock()
    done.acquire()
    start_native_thread(run)
    if hub is None:
        done.acquire()
    else:
        wait_for(event)


class _Refusing(Executor):
    """Behind the thread-sensitive calls of what runs on such a loop."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        raise RuntimeError(
            "under gevent, an async callback cannot make thread-sensitive calls, such as those of"
            " Django's async ORM: its event loop has a native thread, and the database connections"
            " belong to greenlets. Use the synchronous ORM in a plain def callback, which runs in"
            " a greenlet."
        )


REFUSING: Executor = _Refusing()
