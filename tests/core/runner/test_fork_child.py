"""A callback that forks: its child ends with it, and does not go on as the server.

However it ends, its exit code and what it has printed are its own; the callbacks behind it are
its parent's. (Each test forks some dozens of times: the whole file takes some seconds.)
"""

import os
from collections.abc import Iterable

import pytest

from ..scripts import run
from .test_fork import QUIET

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

PREPARED = '''
from functools import partial
from asgiref.sync import sync_to_async
from async_after.asgi import AfterResponseMiddleware as ASGIWrapper
from async_after.wsgi import AfterResponseMiddleware as WSGIWrapper

parent = os.getpid()
out, to_parent = os.pipe()
runner = get_runner()


def fail():
    raise LookupError("the child has failed")


def register_and_fail():
    after_response(os.write, to_parent, b"of the child's")
    fail()


class Exit(SystemExit):
    pass


ENDS = {
    "exit()": sys.exit,
    "exit(None)": partial(sys.exit, None),
    "exit(3)": partial(sys.exit, 3),
    "exit(True)": partial(sys.exit, True),
    "exit(-1)": partial(sys.exit, -1),
    "exit(2**40 + 5)": partial(sys.exit, 2**40 + 5),
    "exit(text)": partial(sys.exit, "why it ends"),
    "exit(object)": partial(sys.exit, ["why", "it", "ends"]),
    "a subclass": lambda: (_ for _ in ()).throw(Exit(4)),
    "_exit(5)": partial(os._exit, 5),
    "raises": fail,
    "registers and raises": register_and_fail,
    "is interrupted": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "returns": lambda: None,
}
FEW = ["exit(3)", "raises", "returns"]


def job(end):
    pid = os.fork()
    if pid:
        return pid
    os.dup2(to_parent, 1)
    os.dup2(to_parent, 2)
    print("in a buffer", end=" ")
    return ENDS[end]()


async def ajob(end):
    await asyncio.sleep(0)
    return job(end)


async def ajob_that_awaits(end):
    pid = os.fork()
    if not pid:
        os.dup2(to_parent, 1)
        os.dup2(to_parent, 2)
        await asyncio.sleep(0)
        ENDS[end]()
    return pid


class Jobs:
    def __call__(self, end):
        return job(end)

    def method(self, end):
        return job(end)

    async def amethod(self, end):
        return await ajob(end)


class AsyncJobs:
    async def __call__(self, end):
        return await ajob(end)


PLAIN = {
    "def": job,
    "partial": partial(partial(job)),
    "method": Jobs().method,
    "object": Jobs(),
    "returns a coroutine": lambda end: ajob(end),
}
ASYNC = {
    "async def": ajob,
    "partial of an async def": partial(ajob),
    "async method": Jobs().amethod,
    "async object": AsyncJobs(),
}
OURS = ASYNC | {"sync_to_async": sync_to_async(job)}  # in scopes the thread is asgiref's


def behind():
    os.write(to_parent, b"behind, ")
    return os.getpid()


def read():
    """What the child, and the callback behind it, have said."""
    os.set_blocking(out, False)
    said = b""
    while True:
        try:
            block = os.read(out, 65536)
        except BlockingIOError:
            return said.decode()
        said += block


def exit_code(pid):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "goes on"


def try_all(way, serve, lane, kinds):
    """All kinds of callables end in some ways, and the first in all."""
    signal.alarm(14)
    first = next(iter(kinds))
    for kind, function in kinds.items():
        for end in ENDS if kind == first else FEW:
            callbacks = []

            def register():
                callbacks.append(after_response.using(lane=lane, name="forks")(function, end))
                callbacks.append(after_response(behind))

            serve(register)
            forked, last = callbacks
            code = exit_code(forked.result())
            assert last.result() == parent, last
            said = " ".join(read().split())
            print(way, kind, "|", end, "|", code, "|", said, flush=True)


# Ways in.


def on_loop(register):
    async def main():
        with responding(loop_exchange(runner)):
            register()
        await runner.drain(DEADLINE)

    asyncio.run(main())


def behind_asgi(register):
    async def app(scope, receive, send):
        register()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async def accept(message): ...

    async def main():
        scope = {"type": "http", "method": "GET", "path": "/"}
        await ASGIWrapper(app, hold=True)(scope, None, accept)

    asyncio.run(main())


def behind_wsgi(register, lane="threads"):
    def app(environ, start_response):
        register()
        start_response("200 OK", [])
        return [b""]

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    WSGIWrapper(app, lane=lane)(environ, lambda status, headers: None).close()
    asyncio.run(runner.drain(DEADLINE))


def in_scope(register):
    with exchange_scope():
        register()


def in_async_scope(register):
    async def main():
        async with exchange_scope():
            register()

    asyncio.run(main())


'''

CODES = {
    "exit()": 0,
    "exit(None)": 0,
    "exit(3)": 3,
    "exit(True)": 1,
    "exit(-1)": 255,
    "exit(2**40 + 5)": 5,
    "exit(text)": 1,
    "exit(object)": 1,
    "a subclass": 4,
    "_exit(5)": 5,
    "raises": 1,
    "registers and raises": 1,
    "is interrupted": 1,
    "returns": 0,
}
SAID = {
    "exit(text)": "why it ends",
    "exit(object)": "['why', 'it', 'ends']",
    "raises": "LookupError: the child has failed",
    "registers and raises": "LookupError: the child has failed",
    "is interrupted": "KeyboardInterrupt",
}


def check(lines: Iterable[str]) -> None:
    for line in lines:
        _, end, code, said = (part.strip() for part in line.split("|", 3))
        assert code == str(CODES[end]), line
        assert said.count("behind,") == 1, line
        if end != "_exit(5)":
            assert "in a buffer" in said, line
        assert SAID.get(end, "") in said, line


# The way in, the lane, and the kinds that run there.
WAYS: dict[str, list[tuple[str, str | None, str]]] = {
    "lanes": [
        ("on_loop", None, "PLAIN"),
        ("on_loop", None, "OURS"),
        ("on_loop", "background", "OURS"),
    ],
    "ASGI": [("behind_asgi", None, "PLAIN"), ("behind_asgi", None, "OURS")],
    "WSGI": [("behind_wsgi", None, "PLAIN"), ("behind_wsgi", None, "OURS")],
    "WSGI inline": [
        ("partial(behind_wsgi, lane='inline')", None, "PLAIN"),
        ("partial(behind_wsgi, lane='inline')", None, "OURS"),
    ],
    "scopes": [
        ("in_async_scope", None, "PLAIN"),
        ("in_async_scope", None, "ASYNC"),
        ("in_scope", None, "ASYNC"),
    ],
}


@pytest.mark.parametrize("way", WAYS)
def test_the_child_ends_with_its_callback(way: str) -> None:
    tries = [f"try_all({way!r}, {serve}, {lane!r}, {kinds})" for serve, lane, kinds in WAYS[way]]
    done = run(PREPARED + "\n".join(tries), *QUIET)
    assert (done.code, done.err) == (0, "")
    check(done.out)
    assert {line.split("|")[1].strip() for line in done.out} == {*CODES}


@pytest.mark.parametrize("way", ["on_loop", "behind_wsgi", "in_scope", "in_async_scope"])
def test_a_child_cannot_await(way: str) -> None:
    """The loop is its parent's, with all the requests that are served there."""
    done = run(
        PREPARED
        + f"""
callbacks = []
{way}(lambda: callbacks.append(after_response(ajob_that_awaits, "returns")))
say(exit_code(callbacks[0].result()), "a child process cannot await" in read())
""",
        *QUIET,
    )
    assert (done.code, done.err, done.out) == (0, "", ["1 True"])


def test_a_child_in_a_scope_goes_on_as_behind_any_call() -> None:
    """It is the program that has forked, and not a server; but what fails does not go on."""
    done = run(
        PREPARED
        + """
for end in FEW:
    callbacks = []
    with exchange_scope():
        callbacks.append(after_response(job, end))
        callbacks.append(after_response(os.write, to_parent, b"behind, "))
    if os.getpid() != parent:
        os.write(to_parent, b"left, ")
        os._exit(7)
    code = exit_code(callbacks[0].result())
    said = read()
    say(end, code, said.count("behind"), said.count("left"))
""",
        *QUIET,
    )
    assert done.out == ["exit(3) 3 1 0", "raises 1 1 0", "returns 7 2 1"], done.err


def test_one_that_was_given_up_before() -> None:
    """Its timeout has come before it forks."""
    done = run(
        PREPARED
        + """
pids, go_on = [], threading.Event()

def late(end):
    go_on.wait(DEADLINE)
    pid = os.fork()
    if not pid:
        ENDS[end]()
    pids.append(pid)

for end in FEW:
    go_on.clear()
    with responding(thread_exchange(runner)) as exchange:
        callback = after_response.using(timeout=0.01)(late, end)
    exchange.idle_latch().wait_in_thread(DEADLINE)
    go_on.set()
    while not pids:
        time.sleep(0.001)
    say(callback.state.name, exit_code(pids.pop()))
""",
        *QUIET,
    )
    assert done.out == [f"TIMED_OUT {CODES[end]}" for end in ("exit(3)", "raises", "returns")]


@pytest.mark.parametrize("lane", ["loop", "background"])
def test_the_parent_is_no_child(lane: str) -> None:
    """A coroutine that was given up at shutdown, and then wants to exit: the process goes on."""
    done = run(
        f"""
async def stubborn():
    try:
        await forever()
    finally:
        await asyncio.sleep(0.05)
        sys.exit(3)

async def main():
    with responding(loop_exchange(runner)):
        callback = after_response.using(lane={lane!r})(stubborn)
    while callback.state.name != "RUNNING":
        await asyncio.sleep(0.001)
    await runner.aclose()
    await asyncio.sleep(0.2)
    say(callback.state.name, "and the process goes on")

os.fork() or os._exit(0)  # that there was one before says nothing
runner = Runner(wait_timeout=0.0, close_timeout=0.0)
asyncio.run(main())
"""
    )
    assert (done.code, done.out) == (0, ["DROPPED and the process goes on"]), done.err


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_multiprocessing(kind: str) -> None:
    """It ends its children itself."""
    done = run(
        PREPARED
        + f"""
import multiprocessing

def start(end):
    process = multiprocessing.get_context("fork").Process(target=ENDS[end])
    process.start()
    process.join(DEADLINE)
    return process.exitcode

async def astart(end):
    await asyncio.sleep(0)
    return start(end)

callbacks = []
function = {{"def": start, "async def": astart}}[{kind!r}]
for serve in (on_loop, behind_wsgi):
    serve(lambda: callbacks.extend(after_response(function, end) for end in FEW))
say(*(callback.result() for callback in callbacks))
""",
        *QUIET,
    )
    assert done.out == ["3 1 0 3 1 0"], done.err
