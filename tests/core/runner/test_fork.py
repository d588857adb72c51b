"""A fork: nothing is made before it, and afterwards each process has callbacks of its own."""

import os

import pytest

from ..scripts import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

QUIET = ("-W", "ignore::DeprecationWarning")
"""Python 3.12 warns of a fork with threads; that it works all the same is what is tested."""

FORK = '''
def in_child(work):
    """Fork; the child does ``work``, exits as programs do, and is given DEADLINE for it."""
    out, to_parent = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(to_parent, 1)
        os.dup2(to_parent, 2)
        signal.alarm(int(DEADLINE))
        work()
        sys.exit(0)
    os.close(to_parent)
    _, status = os.waitpid(pid, 0)
    said = b""
    while block := os.read(out, 65536):
        said += block
    os.close(out)
    return os.waitstatus_to_exitcode(status), said.decode()


def counts(runner):
    return [getattr(runner.statistics(), name) for name in runner.statistics().__slots__]
'''


def test_nothing_is_made_before() -> None:
    """No thread and no loop by importing, a runner, a wrapper; preloading is safe."""
    done = run(
        FORK
        + """
made = []
new_event_loop = asyncio.new_event_loop
asyncio.new_event_loop = lambda: made.append("loop") or new_event_loop()
start = threading.Thread.start
threading.Thread.start = lambda thread: made.append(thread.name) or start(thread)

from async_after.asgi import AfterResponseMiddleware

async def app(scope, receive, send): ...

runners = [get_runner(), Runner(max_threads=2)]
wrapped = AfterResponseMiddleware(app), AfterResponseMiddleware(app, runner=runners[1])
for runner in runners:
    runner.statistics()
    with entered(thread_exchange(runner)) as exchange:  # a request without callbacks
        pass
    exchange.end()
say(made, threading.active_count())
for runner in runners:
    for _ in range(2):
        say(in_child(lambda: all_kinds(runner)))
    all_kinds(runner)
    say(in_child(lambda: all_kinds(runner)))
""",
        *QUIET,
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == ["[] 1", *["(0, '')"] * 6]


def test_after_callbacks_of_all_kinds() -> None:
    """Idle workers, timers and the background loop are the parent's; the child makes its own."""
    done = run(
        FORK
        + """
def child():
    say(counts(runner) == [0] * len(counts(runner)))
    all_kinds(runner)
    say(runner.statistics().registered, {c.ident for c in threading.enumerate()} & theirs == here)

runner = Runner()
all_kinds(runner)
theirs = {thread.ident for thread in threading.enumerate()}
here = {threading.get_ident()}
before = runner.statistics()
code, said = in_child(child)
say(code, said.splitlines()[0], said.split()[1])
assert runner.statistics() == before
all_kinds(runner)
say(runner.statistics().registered == 2 * before.registered)
# Once more, and a child of the child.
say(in_child(lambda: (all_kinds(runner), say(in_child(lambda: all_kinds(runner))))))
""",
        *QUIET,
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == ["0 True 9", "True", "(0, \"(0, '')\\n\")"]


def test_the_callbacks_of_the_parent_stay_its_own() -> None:
    """Running, pending, in line, of an open request: the child neither runs nor drops nor logs
    nor finalizes them, also at its exit; the parent completes them."""
    done = run(
        FORK
        + """
class Argument:
    def __del__(self):
        if os.getpid() != parent:
            os.write(2, b"finalized in the child\\n")

async def cleans_up(argument):
    running.append(1)
    try:
        while not go_on.is_set():
            await asyncio.sleep(0.001)
    finally:
        if os.getpid() != parent:
            os.write(2, b"cleaned up in the child\\n")

def works(argument=None):
    running.append(1)
    go_on.wait(DEADLINE)

def child():
    gc.collect()
    say(counts(runner) == [0] * len(counts(runner)))
    go_on.set()  # the child's own, now
    all_kinds(runner)
    asyncio.run(runner.drain(DEADLINE))
    asyncio.run(runner.aclose())
    gc.collect()

parent = os.getpid()
runner = Runner(limit=4)
go_on = threading.Event()
running, callbacks = [], []

def register(make, timeout):
    with responding(make(runner)):
        callbacks.append(after_response.using(timeout=timeout)(works, Argument()))
        callbacks.append(after_response(cleans_up, Argument()))
    with responding(make(runner)):
        callbacks.append(in_background(cleans_up, Argument()))
        callbacks.append(after_response(int))

async def serve():
    register(loop_exchange, None)
    with responding(loop_exchange(runner)):
        callbacks.append(after_response(cleans_up, Argument()))
    await asyncio.to_thread(go_on.wait, DEADLINE)
    await runner.drain(DEADLINE)

def in_line_and_open():
    with responding(thread_exchange(runner)):
        callbacks.append(concurrently(works, Argument()))
    with entered(thread_exchange(runner)) as exchange:
        callbacks.append(after_response(works, Argument()))
    return exchange

server = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
server.start()
while len(running) < 3:
    time.sleep(0.001)
register(thread_exchange, DEADLINE)
while len(running) < 4:
    time.sleep(0.001)
exchange = in_line_and_open()
before = counts(runner)
say(in_child(child))
assert counts(runner) == before
go_on.set()
exchange.end()
exchange.host.dispatch(exchange)
server.join(DEADLINE)
asyncio.run(runner.drain(DEADLINE))
say({c.state.name for c in callbacks}, len(callbacks))
""",
        *QUIET,
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == ["(0, 'True\\n')", "{'SUCCEEDED'} 11"]


@pytest.mark.exhaustive
def test_while_other_threads_hold_locks() -> None:
    """Forks at any moment, while threads register, finish and look.

    Not while they enter scopes: those ask asgiref, which has a lock of its own.
    """
    done = run(
        FORK
        + """
def hammer(number):
    mine = Runner(limit=2, pending_limit=2, overflow="drop")
    while not stop.is_set():
        for runner in (get_runner(), mine):
            with responding(thread_exchange(runner)):
                after_response.using(key=1)(int)
                after_response.using(timeout=1)(int)
                concurrently(int).cancel()
            runner.statistics()

import logging
logging.getLogger("async_after").addHandler(logging.NullHandler())  # what is dropped
sys.setswitchinterval(1e-5)
stop = threading.Event()
threads = [threading.Thread(target=hammer, args=(n,), daemon=True) for n in range(3)]
for thread in threads:
    thread.start()
results = {}
deadline = time.monotonic() + 2
while time.monotonic() < deadline:
    result = in_child(lambda: (all_kinds(get_runner()), all_kinds(Runner()), os._exit(0)))
    results[result] = results.get(result, 0) + 1
stop.set()
for thread in threads:
    thread.join(DEADLINE)
asyncio.run(get_runner().drain(DEADLINE))
say([*results])
""",
        *QUIET,
    )
    assert (done.code, done.out) == (0, ["[(0, '')]"]), done.err


def test_in_a_callback() -> None:
    """A worker process that a callback starts: it has the parent's context, and works."""
    done = run(
        FORK
        + """
import multiprocessing

def work():
    with exchange_scope():
        callback = after_response(int)
        coro = after_response(coroutine)
    assert (callback.state.name, coro.state.name) == ("SUCCEEDED", "SUCCEEDED")
    all_kinds(get_runner())

def starts_a_process():
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(DEADLINE)
    return process.exitcode

runner = get_runner()
with responding(thread_exchange(runner)):
    registrars = [after_response, after_response.using(timeout=DEADLINE)]
    callbacks = [registrar(starts_a_process) for registrar in registrars]
asyncio.run(runner.drain(DEADLINE))
say([callback.result() for callback in callbacks])
""",
        *QUIET,
    )
    assert (done.code, done.err, done.out) == (0, "", ["[0, 0]"])


def test_inside_a_request() -> None:
    """A view that forks: what it has registered is the parent's; the child has a new scope."""
    done = run(
        FORK
        + """
runner = get_runner()
all_kinds(runner)
with responding(thread_exchange(runner)):
    callbacks = [after_response(say, "once"), after_response(coroutine)]
    result = in_child(lambda: all_kinds(runner))
asyncio.run(runner.drain(DEADLINE))
say(result, {c.state.name for c in callbacks})
""",
        *QUIET,
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == ["once", "(0, '') {'SUCCEEDED'}"]


@pytest.mark.parametrize(
    ("lane", "is_closed"),
    [("thread_exchange", False), ("thread_exchange", True), ("loop_exchange", False)],
)
def test_late_on_an_exchange_of_the_parent(lane: str, is_closed: bool) -> None:
    """It has the child's slots, all of them; and a server's threads are the child's, and open."""
    done = run(
        FORK
        + f"""
async def respond():
    with responding({lane}(runner)) as exchange:
        kinds = after_response, concurrently
        [kind(function) for kind in kinds for function in (int, coroutine)]
    await runner.drain(DEADLINE)
    deadline = time.monotonic() + DEADLINE
    while runner.capacity.limiter.used and time.monotonic() < deadline:
        await asyncio.sleep(0.001)  # the chains are given back a moment later
    if {is_closed}:
        await runner.aclose()
    return exchange

def child():
    for _ in range(6):  # more than there are slots
        with entered(exchange):
            callbacks = [after_response(int), in_background(coroutine), concurrently(int)]
        asyncio.run(runner.drain(DEADLINE))
        say(*(callback.state.name for callback in callbacks), runner.statistics().running)

runner = Runner(limit=2)
exchange = asyncio.run(respond())
code, said = in_child(child)
say(code, *set(said.splitlines()))
""",
        *QUIET,
    )
    assert (done.code, done.err) == (0, "")
    assert done.out == ["0 SUCCEEDED SUCCEEDED SUCCEEDED 0"]
