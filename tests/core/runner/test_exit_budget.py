"""Promise 10, drained: at the exit of the interpreter all runners share one ``wait_timeout`` and
one ``close_timeout``, however many there are, and wherever their callbacks are stuck."""

import pytest

from ..scripts import Done, run

WAIT, CLOSE = 0.25, 0.25
MARGIN = 0.45
"""Four runners one after the other take more than three times as long."""

PREPARED = (
    f"""
from async_after.wsgi import AfterResponseMiddleware as WSGIWrapper

WAIT, CLOSE = {WAIT}, {CLOSE}
"""
    + '''
running = []


def stuck_plain():
    running.append(1)
    time.sleep(60)


async def stuck():
    """It does not listen."""
    running.append(1)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


async def blocked():
    running.append(1)
    time.sleep(60)


async def cleans_up(name):
    running.append(1)
    try:
        await forever()
    finally:
        await asyncio.sleep(0.02)
        say(name, "has cleaned up")


def in_thread(function):
    threading.Thread(target=function, daemon=True).start()


def respond(exchange, registrar, function, *args):
    with responding(exchange):
        registrar(function, *args)
        after_response.using(name="behind")(int)


def in_loop(runner, function, *args, stops=False):
    async def main():
        respond(loop_exchange(runner), after_response, function, *args)
        await asyncio.sleep(0.01)
        if stops:
            loop.stop()
        await forever()

    loop = asyncio.new_event_loop()
    loop.create_task(main())
    if stops:
        loop.run_forever()
    else:
        in_thread(loop.run_forever)
    loops.append(loop)


def inline(runner):
    def app(environ, start_response):
        after_response(stuck_plain)
        after_response.using(name="behind")(int)
        start_response("200 OK", [])
        return [b""]

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
    wrapped = WSGIWrapper(app, runner=runner, lane="inline")
    in_thread(lambda: wrapped(environ, lambda status, headers: None).close())


def scope(runner):
    def enter():
        with exchange_scope():
            after_response(stuck_plain)
            after_response.using(name="behind")(int)

    in_thread(enter)


KINDS = {
    "threads": lambda r: respond(thread_exchange(r), after_response, stuck_plain),
    "background": lambda r: respond(thread_exchange(r), in_background, stuck),
    "blocked background": lambda r: respond(thread_exchange(r), in_background, blocked),
    "loop in a thread": lambda r: in_loop(r, stuck),
    "blocked loop": lambda r: in_loop(r, blocked),
    "stopped loop": lambda r: in_loop(r, stuck, stops=True),
    "two stopped loops": lambda r: [in_loop(r, stuck, stops=True) for _ in range(2)],
    "inline": inline,
    "scope": scope,
}
loops = []


def until_running(number):
    event, deadline = threading.Event(), time.monotonic() + DEADLINE
    while len(running) < number and time.monotonic() < deadline:
        event.wait(0.001)
    assert len(running) == number, running


def measure():
    """From here, the end of the script, to the end of all that runs at exit."""
    began = time.monotonic()
    atexit.register(lambda: say(time.monotonic() - began))
'''
)

KINDS = (
    *("threads", "background", "blocked background", "loop in a thread", "blocked loop"),
    *("stopped loop", "two stopped loops", "inline", "scope"),
)


def seconds(done: Done) -> float:
    assert done.code == 0, done.err
    assert "Traceback" not in done.err, done.err
    return float(done.out[-1])


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_several_runners_that_are_stuck(kind: str) -> None:
    """In the same way. (All scopes belong to one runner.)"""
    number = 2 if kind == "two stopped loops" else 1
    done = run(
        PREPARED
        + f"""
runners = [Runner(wait_timeout=WAIT, close_timeout=CLOSE) for _ in range(4)]
get_runner().capacity._bounds = runners[0].capacity._bounds
for runner in runners:
    KINDS[{kind!r}](runner)
until_running(4 * {number})
measure()
"""
    )
    assert WAIT + CLOSE <= seconds(done) < WAIT + CLOSE + MARGIN
    assert done.named.count("behind") == 4 * number, done.err
    assert len(done.named) == 8 * number, done.err


def test_runners_that_are_stuck_each_in_its_own_way() -> None:
    done = run(
        PREPARED
        + """
runners = [Runner(wait_timeout=WAIT, close_timeout=CLOSE) for _ in KINDS]
get_runner().capacity._bounds = runners[0].capacity._bounds
for runner, make in zip(runners, KINDS.values()):
    make(runner)
until_running(len(KINDS) + 1)
measure()
"""
    )
    assert WAIT + CLOSE <= seconds(done) < WAIT + CLOSE + MARGIN
    assert len(done.named) == 2 * (len(KINDS) + 1), done.err


@pytest.mark.exhaustive
@pytest.mark.parametrize("first", ["patient", "impatient"])
def test_each_has_its_own_patience(first: str) -> None:
    """The longest of all is how long it takes; and nobody waits longer than his own."""
    done = run(
        PREPARED
        + f"""
made = {{
    "patient": Runner(wait_timeout=WAIT, close_timeout=CLOSE),
    "impatient": Runner(wait_timeout=0.05, close_timeout=0.05),
}}
for name in sorted(made, reverse={first == "patient"}):
    respond(thread_exchange(made[name]), after_response, stuck_plain)
    respond(thread_exchange(made[name]), in_background, stuck)
until_running(4)
measure()
"""
    )
    assert seconds(done) < WAIT + CLOSE + MARGIN
    assert len(done.named) == 8, done.err


def test_those_that_are_cancelled_clean_up() -> None:
    """The time for that is not used up by others that are stuck, whoever comes first."""
    done = run(
        PREPARED
        + """
runners = [Runner(wait_timeout=WAIT, close_timeout=CLOSE) for _ in range(6)]
for number, runner in enumerate(runners):
    respond(thread_exchange(runner), in_background, cleans_up, number)
    in_loop(runner, cleans_up, f"{number} loop")
    if number % 2:
        respond(thread_exchange(runner), after_response, stuck_plain)
until_running(15)
measure()
"""
    )
    assert seconds(done) < WAIT + CLOSE + MARGIN
    assert sum("has cleaned up" in line for line in done.out) == 12, done.out


def test_those_that_end_in_time_are_not_given_up() -> None:
    """Behind runners that are stuck: what waits goes on, and ends."""
    done = run(
        PREPARED
        + """
stuck_ones = [Runner(wait_timeout=WAIT, close_timeout=CLOSE) for _ in range(3)]
for runner in stuck_ones:
    respond(thread_exchange(runner), after_response, stuck_plain)
others = [Runner(limit=1, wait_timeout=WAIT, close_timeout=CLOSE) for _ in range(3)]
callbacks = []
until_running(3)
for runner in others:
    # Python 3.12 starts no thread at its exit: the loop and a worker are there before.
    respond(thread_exchange(runner), in_background, coroutine)
    asyncio.run(runner.drain(20))
    for _ in range(3):
        with responding(thread_exchange(runner)):
            callbacks.append(after_response(until_exit, "it ends"))
            callbacks.append(in_background(coroutine))
at_the_very_end(*callbacks)
"""
    )
    assert done.out[-1] == " ".join(["SUCCEEDED"] * 18), done.err
    assert done.named == ["behind"] * 3 + ["stuck_plain"] * 3
