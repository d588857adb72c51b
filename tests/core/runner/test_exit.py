"""The exit of the interpreter: the last resort, within the same timeouts (promise 10)."""

import pytest

from ..scripts import run


@pytest.mark.parametrize("before", ["", "import concurrent.futures.thread, asgiref.sync"])
def test_running_callbacks_complete(before: str) -> None:
    """Plain ones in their threads with those behind them, others on the background loop,
    executors included; whatever was imported first."""
    done = run(
        f"""
{before}
async def with_executor():
    await asyncio.to_thread(say, "warm")
    await auntil_exit("background")
    await asyncio.to_thread(say, "executor")

runner = get_runner()
started = threading.Barrier(3)
with responding(thread_exchange(runner)):
    after_response(lambda: (started.wait(DEADLINE), until_exit("plain")))
    a = after_response(say, "behind")
with responding(thread_exchange(runner)):
    after_response(lambda: (started.wait(DEADLINE), until_exit("other")))
with responding(thread_exchange(runner)):
    b = in_background(with_executor)
while b.state.name != "RUNNING":
    time.sleep(0.001)
started.wait(DEADLINE)
time.sleep(0.05)  # the executor has its thread, and an idle one takes the next call
at_the_very_end(a, b)
"""
    )
    said = ["plain at exit", "other at exit", "background at exit", "behind", "executor", "warm"]
    assert (done.code, done.err) == (0, "")
    assert sorted(done.out[:-1]) == sorted(said)
    assert done.out[-1] == "SUCCEEDED SUCCEEDED"


def test_the_loop_has_ended_but_threads_go_on() -> None:
    """Plain functions need no loop: those that have begun, and those behind them."""
    done = run(
        """
runner = get_runner()
running = threading.Event()

async def main():
    with responding(loop_exchange(runner)):
        callbacks = [
            after_response(lambda: (running.set(), until_exit("first"))),
            after_response(say, "second"),
            after_response(coroutine, "needs its loop"),
            after_response(say, "last"),
        ]
    await asyncio.to_thread(running.wait, DEADLINE)
    at_the_very_end(*callbacks)

asyncio.run(main())
"""
    )
    assert done.out == ["first at exit", "second", "last", "SUCCEEDED SUCCEEDED DROPPED SUCCEEDED"]
    assert done.named == ["coroutine"]


@pytest.mark.parametrize("kind", ["plain", "background", "blocked background", "loop in a thread"])
def test_what_does_not_end_is_named(kind: str) -> None:
    """And the process ends in time. So does what waits behind it, or for a slot."""
    done = run(
        f"""
kind = {kind!r}
runner = Runner(limit=1, wait_timeout=0.1, close_timeout=0.1)
running = threading.Event()

def plain():
    running.set()
    time.sleep(60)

async def background():
    running.set()
    if kind == "blocked background":
        time.sleep(60)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

def register(make):
    registrar = after_response if kind in ("plain", "loop in a thread") else in_background
    with responding(make(runner)):
        callbacks = [registrar(plain if kind == "plain" else background)]
        callbacks.append(after_response.using(name="behind")(int))
    with responding(make(runner)):
        callbacks.append(concurrently.using(name="in_line")(int))
    with entered(make(runner)):
        callbacks.append(after_response.using(name="open")(int))
    at_the_very_end(*callbacks)

async def serve():
    register(loop_exchange)
    await forever()

if kind == "loop in a thread":
    threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
else:
    register(thread_exchange)
running.wait(DEADLINE)
"""
    )
    assert done.named == sorted(["behind", "in_line", "open", kind.split()[-1]]) or (
        kind == "loop in a thread" and done.named == ["background", "behind", "in_line", "open"]
    ), done.err
    assert done.out[-1:] == ["DROPPED DROPPED DROPPED DROPPED"]
    assert "4 callback(s) were lost" in done.err or "3 callback(s) were lost" in done.err
    assert done.code == 0


def test_the_end_of_asyncio_run() -> None:
    """What the loop still had is DROPPED and named: running, behind, in line, and what is late."""
    done = run(
        """
runner = Runner(limit=2)
callbacks = []

async def registers_at_its_end():
    try:
        await forever()
    finally:
        callbacks.append(after_response.using(name="late")(coroutine))

async def main():
    with responding(loop_exchange(runner)):
        callbacks.append(after_response.using(name="running")(forever))
        callbacks.append(after_response.using(name="behind")(coroutine))
    with responding(loop_exchange(runner)):
        callbacks.append(after_response(registers_at_its_end))
    with responding(loop_exchange(runner)):
        callbacks.append(after_response.using(name="in_line")(forever))
    await asyncio.sleep(0)

asyncio.run(main())
atexit.register(lambda: [say(c.name.rpartition(".")[2], c.state.name) for c in callbacks])
"""
    )
    assert done.code == 0
    states = dict(line.split() for line in done.out)
    # The loop may have a turn left for what is registered that late.
    assert states.pop("late") in ("SUCCEEDED", "DROPPED")
    assert states == dict.fromkeys(
        ["behind", "in_line", "registers_at_its_end", "running"], "DROPPED"
    )
    assert done.named == sorted(line.split()[0] for line in done.out if line.endswith("DROPPED")), (
        done.err
    )


@pytest.mark.parametrize("has_idle_worker", [False, True])
def test_needs_a_thread_that_cannot_be_started(has_idle_worker: bool) -> None:
    """Python 3.12 starts none at exit: it is lost, and that is said. An idle worker will do."""
    done = run(
        f"""
def can_start_threads():
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        say("no")
    else:
        say("yes")

threading._register_atexit(can_start_threads)
runner = get_runner()
with responding(thread_exchange(runner)):
    if {has_idle_worker}:
        after_response(int)
    callback = in_background(auntil_exit, "background")
    behind = after_response.using(name="behind")(say, "behind")
    last = in_background(coroutine, "last")
# Not by its state: it is RUNNING before its thread has been started.
while "async_after background loop" not in [t.name for t in threading.enumerate()]:
    time.sleep(0.001)
at_the_very_end(behind, last)
"""
    )
    assert done.code == 0
    if done.out[0] == "no" and not has_idle_worker:
        assert done.out[1:] == ["background at exit", "last", "DROPPED SUCCEEDED"]
        assert done.named == ["behind"]
    else:
        assert done.out[1:] == ["background at exit", "behind", "last", "SUCCEEDED SUCCEEDED"]
        assert done.err == ""


def test_an_idle_process_ends_at_once() -> None:
    """With idle workers, a background loop, timers that are far away, and an open request."""
    done = run(
        """
runner = get_runner()
all_kinds(runner)
loop_less = thread_exchange(runner)  # a request that has registered nothing
runner.capacity.timers.call_later(3600, lambda: None)
names = {t.name.rstrip("0123456789 ") for t in threading.enumerate()}
say(sorted(name for name in names if name.startswith("async_after")))
"""
    )
    threads = ["async_after background loop", "async_after timers", "async_after worker"]
    assert (done.code, done.err) == (0, "")
    assert done.out == [str(threads)]


@pytest.mark.parametrize("where", ["with", "async with"])
def test_nobody_waits_for_what_nothing_can_end(where: str) -> None:
    """A scope that was never left, here or in a task of a loop that was stopped."""
    done = run(
        f"""
where = {where!r}
callbacks = []

async def main():
    async with exchange_scope():
        callbacks.append(after_response.using(name="open")(coroutine))
        loop.call_soon(loop.stop)
        await forever()

if where == "with":
    exchange_scope().__enter__()
    callbacks.append(after_response.using(name="open")(coroutine))
else:
    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    loop.run_forever()
atexit.register(lambda: say(*(c.state.name for c in callbacks)))
"""
    )
    assert done.named == ["open"], done.err
    assert done.out == ["DROPPED"]


@pytest.mark.parametrize("stops_again", [False, True])
def test_a_loop_that_was_stopped_and_not_closed(stops_again: bool) -> None:
    """It can go on for its callbacks, within the timeouts; a request on it cannot end any more."""
    done = run(
        f"""
runner = Runner(wait_timeout=0.2, close_timeout=0.2)
callbacks = []

async def main():
    with responding(loop_exchange(runner)):
        callbacks.append(after_response.using(name="running")(asyncio.sleep, 0.05))
        callbacks.append(after_response.using(name="behind")(coroutine))
    with responding(loop_exchange(runner)):
        callbacks.append(after_response.using(name="endless")(forever))
        callbacks.append(after_response.using(name="never")(coroutine))
    with entered(loop_exchange(runner)):
        callbacks.append(after_response.using(name="open")(coroutine))
    await asyncio.sleep(0)

loop = asyncio.new_event_loop()
task = loop.create_task(main())
loop.call_later(0.02, loop.stop)
if {stops_again}:
    loop.call_later(0.04, loop.stop)  # as Twisted's reactor and impatient signal handlers do
loop.run_forever()
atexit.register(lambda: [say(c.name, c.state.name) for c in callbacks])
"""
    )
    states = dict(line.split() for line in done.out)
    assert done.named == sorted(name for name in states if states[name] == "DROPPED"), done.err
    assert {states[name] for name in ("endless", "never", "open")} == {"DROPPED"}
    assert {states[name] for name in ("running", "behind")} == {"SUCCEEDED"}, done.err
    assert "Exception" not in done.err
    assert done.code == 0


@pytest.mark.parametrize("how", ["sys.exit(3)", "raise KeyError", "os.kill(os.getpid(), 2)"])
def test_the_exit_stays_what_it_was(how: str) -> None:
    done = run(
        f"""
with responding(thread_exchange(get_runner())):
    callback = after_response(until_exit, "callback")
while callback.state.name != "RUNNING":
    time.sleep(0.001)
{how}
time.sleep(1)
"""
    )
    assert done.out == ["callback at exit"]
    assert done.code == {"s": 3, "r": 1, "o": -2}[how[0]]


def test_impatience_at_exit() -> None:
    """Ctrl-C while the process waits: it ends, and what is lost is named."""
    done = run(
        """
def never_ends():
    until_exit("callback")
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

with responding(thread_exchange(get_runner())):
    callback = after_response(never_ends)
    after_response.using(name="behind")(int)
while callback.state.name != "RUNNING":
    time.sleep(0.001)
"""
    )
    assert done.out == ["callback at exit"]
    assert done.named == ["behind", "never_ends"]


def test_every_runner_closes() -> None:
    """Also one that nobody refers to but its own callbacks."""
    done = run(
        """
def make():
    runner = Runner()
    with responding(thread_exchange(runner)):
        callbacks.append(after_response(until_exit, "own"))
        callbacks.append(after_response(say, "behind"))

callbacks = []
make()
with responding(thread_exchange(get_runner())):
    callbacks.append(after_response(until_exit, "default"))
while callbacks[0].state.name != "RUNNING" or callbacks[2].state.name != "RUNNING":
    time.sleep(0.001)
gc.collect()
"""
    )
    assert (done.code, done.err) == (0, "")
    assert sorted(done.out) == ["behind", "default at exit", "own at exit"]


RELEASED = """
from async_after.asgi import AfterResponseMiddleware

async def app(scope, receive, send):
    after_response(say, "plain")
    if scope["path"] == "/raises":
        raise ValueError
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})

async def accept(message): ...

async def main(path):
    wrapped = AfterResponseMiddleware(app, hold=False)
    with contextlib.suppress(ValueError):
        await wrapped({"type": "http", "method": "GET", "path": path}, None, accept)
"""


@pytest.mark.parametrize("path", ["/raises", "/returns"])
def test_a_loop_that_ends_right_behind_the_response(path: str) -> None:
    """Nobody holds the coroutine, and the loop is closed before callbacks have begun."""
    done = run(
        RELEASED
        + f"""
asyncio.run(main("{path}"))
asyncio.run(get_runner().drain(DEADLINE))
say(get_runner().statistics().succeeded)
"""
    )
    assert (done.code, done.err, done.out) == (0, "", ["plain", "1"])


def test_a_program_that_ends_right_behind_the_response() -> None:
    """From Python 3.12 on no thread can be started any more: then the loss is named at once."""
    done = run(
        RELEASED
        + """
began = time.monotonic()
asyncio.run(main("/returns"))
atexit.register(lambda: say(time.monotonic() - began < get_runner().capacity.wait_timeout / 2))
"""
    )
    assert done.code == 0
    assert done.out[-1] == "True"
    assert done.out[:-1] == ["plain"] or "say of GET /returns (200) was dropped" in done.err
