"""The hook in ``connection.run_on_commit``: how it dies, and what it keeps alive.

In processes of their own, where nothing else calls the garbage collector.
"""

import subprocess
import sys

import pytest

from tests.core import scripts
from tests.core.scripts import ROOT, TOO_LONG, Done

pytestmark = pytest.mark.exhaustive  # each sets Django up in a process of its own

DJANGO = """
import faulthandler, weakref
faulthandler.dump_traceback_later(10, exit=True)  # a deadlock
import django
from django.conf import settings
settings.configure(
    # Each thread has one of its own.
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    SECRET_KEY="for tests only", ALLOWED_HOSTS=["*"], ROOT_URLCONF="__main__",
    MIDDLEWARE=["async_after.django.AfterResponseMiddleware"], LOGGING_CONFIG=None,
)
django.setup()
from asgiref.sync import sync_to_async
from django.core.management import BaseCommand, call_command
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import path

on_commit = after_response.using(on_commit=True)
aon_commit = aafter_response.using(on_commit=True)
ran = []
gc.collect()
gc.disable()


def until(condition):
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def is_skipped(callback):
    return callback.state is CallbackState.SKIPPED


def leave_open():
    \"\"\"A thread ends in a transaction, whose connection only the collector finds.\"\"\"
    def work():
        transaction.atomic().__enter__()
        with exchange_scope():
            found.append(on_commit(ran.append, "never"))
    found = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].state is CallbackState.PENDING
    return found[0]
"""


def run(script: str) -> Done:
    done = scripts.run(DJANGO + script)
    assert done.code == 0, done.err
    return done


def said(script: str) -> list[str]:
    done = run(script)
    assert done.err == ""
    return done.out


# Deaths.


def test_a_thread_that_ends_in_a_transaction() -> None:
    assert said("""
callback = leave_open()
gc.collect()
until(lambda: is_skipped(callback))
say(get_runner().statistics().skipped, ran)
""") == ["1 []"]


def test_a_hook_that_the_collector_finds_while_the_exchange_is_locked() -> None:
    """Comparing keys is the user's code, under the lock of the exchange."""
    assert said("""
class Key:
    is_armed = False
    def __hash__(self):
        return 1
    def __eq__(self, other):
        if self.is_armed or other.is_armed:
            deep(10)
        return self is other

def deep(frames):
    deep(frames - 1) if frames else gc.collect()

def work(exchange):
    transaction.atomic().__enter__()
    found.append(on_commit.using(request={"async_after.exchange": exchange})(print))

found = []
with exchange_scope() as exchange:
    thread = threading.Thread(target=work, args=(exchange,))
    thread.start()
    thread.join()
    after_response.using(key=Key())(int)
    Key.is_armed = True
    after_response.using(key=Key())(int)
until(lambda: is_skipped(found[0]))
say("done")
""") == ["done"]


def test_a_hook_that_the_collector_finds_while_an_instrument_is_locked() -> None:
    assert said("""
class Metrics:
    lock = threading.Lock()
    def registered(self, callback): pass
    def started(self, callback): pass
    def ended(self, callback):
        with self.lock:
            states.append(callback.state.name)

states = []
settings.ASYNC_AFTER = {"INSTRUMENTS": [Metrics()]}
callback = leave_open()
with Metrics.lock:
    gc.collect()
until(lambda: states)
say(*states)
""") == ["SKIPPED"]


@pytest.mark.parametrize(
    "end",
    [
        "transaction.set_rollback(True)",
        "connection.close()",
        "transaction.savepoint_rollback(block.sid)",
    ],
)
def test_django_drops_it_and_it_is_skipped_at_once(end: str) -> None:
    """Without the collector, and without another thread; in a callback, too."""
    script = f"""
import _thread
def refused(*args):
    raise AssertionError("a thread was started")
_thread.start_new_thread = refused
# In memory, nothing is ever closed.
settings.DATABASES["default"]["NAME"] = connection.settings_dict["NAME"] = "{{directory}}/x"

class block:
    sid = None

def work():
    with transaction.atomic():
        with transaction.atomic():
            block.sid = connection.savepoint_ids[-1]
            callback = on_commit(print)
            {end}
    say(callback.state.name)

with exchange_scope():
    work()
    after_response(work)
"""
    assert said(_in_directory(script)) == ["SKIPPED", "SKIPPED"]


def _in_directory(script: str) -> str:
    begin = "import tempfile\nwith tempfile.TemporaryDirectory() as directory:\n"
    script = script.replace('"{directory}/x"', 'directory + "/x"')
    return begin + "\n".join(f"    {line}" for line in script.splitlines())


def test_a_hook_behind_a_bad_one() -> None:
    """The error of the view keeps the list of the hooks, and the exchange the error."""
    done = run("""
def bad():
    raise LookupError("a hook of the user's")

def view(request):
    with transaction.atomic():
        transaction.on_commit(bad)
        found.append(weakref.ref(on_commit(print)))
        states.append(found[0]().state)
    return HttpResponse()

urlpatterns = [path("", view)]
found, states = [], []
assert Client(raise_request_exception=False).get("/").status_code == 500
gc.collect()
until(lambda: get_runner().statistics().skipped == 1)
gc.collect()
until(lambda: found[0]() is None)
say(states[0].name, get_runner().statistics().pending, len(get_runner().capacity.ledger.dormant()))
""")
    assert done.out == ["PENDING 0 0"]


# Leaks.


@pytest.mark.parametrize("fate", ["commit", "rollback"])
def test_nothing_is_kept(fate: str) -> None:
    """Of a callback that has ended, not even until the collector comes."""
    assert said(f"""
class Argument:
    pass

def work():
    argument = Argument()
    with exchange_scope() as exchange, transaction.atomic():
        callback = on_commit(id, argument)
        hook = weakref.ref(connection.run_on_commit[0][1])
        if {fate == "rollback"}:
            transaction.set_rollback(True)
    assert callback.done()
    return [hook, *(weakref.ref(thing) for thing in (argument, exchange, callback))]

say(*(reference() for reference in work()))
say(len(get_runner().capacity.ledger.exchanges()), len(get_runner().capacity.ledger.dormant()))
""") == ["None None None None", "0 0"]


def test_what_is_never_committed_is_kept_as_long_as_its_connection() -> None:
    assert said("""
class Argument:
    pass

def work():
    argument = Argument()
    with exchange_scope() as exchange:
        callback = on_commit(id, argument)
    return [weakref.ref(thing) for thing in (argument, exchange, callback)]

block = transaction.atomic()
block.__enter__()
references = work()
gc.collect()
say(all(reference() is not None for reference in references))
block.__exit__(LookupError, LookupError(), None)
say(*(reference() for reference in references))
""") == ["True", "None None None"]


# Scopes and commands.


def test_a_scope_in_a_transaction_and_a_transaction_in_a_scope() -> None:
    assert said("""
def work(word):
    ran.append((word, connection.in_atomic_block, threading.current_thread().name))

async def awork(word):
    await sync_to_async(work)(word)

with transaction.atomic():
    with exchange_scope():
        callbacks = [on_commit(work, 1), on_commit(awork, 2), after_response(work, 0)]
    say(*ran, *(callback.state.name for callback in callbacks))
say(*ran[1:])
ran.clear()
with exchange_scope():
    after_response(work, 3)
    with transaction.atomic():
        callbacks = [on_commit(work, 4), on_commit(awork, 5)]
    after_response(work, 6)
    say(*(callback.state.name for callback in callbacks))
say(*(word for word, is_atomic, _ in ran))
try:
    with exchange_scope(), transaction.atomic():
        callbacks = [on_commit(work, 7)]
        raise LookupError
except LookupError:
    say(callbacks[0].state.name)
""") == [
        "(0, True, 'MainThread') PENDING PENDING SUCCEEDED",
        "(1, False, 'MainThread') (2, False, 'MainThread')",
        "PENDING PENDING",
        "3 4 5 6",
        "SKIPPED",
    ]


def test_an_async_scope() -> None:
    assert said("""
async def awork(word):
    ran.append(word)

async def main():
    async with exchange_scope():
        after_response(ran.append, 1)
        await aon_commit(ran.append, 2)
        block = transaction.atomic()
        await sync_to_async(block.__enter__)()
        early = [await aon_commit(ran.append, 3), await aon_commit(awork, 4)]
        await sync_to_async(block.__exit__)(None, None, None)
        after_response(ran.append, 5)
        block = transaction.atomic()
        await sync_to_async(block.__enter__)()
        late = [await aon_commit(ran.append, 6), await aon_commit(awork, 7)]
    say(*ran, *(callback.state.name for callback in late))
    await sync_to_async(block.__exit__)(None, None, None)
    for callback in late:
        await callback.wait(DEADLINE)
    say(*ran)

asyncio.run(main())
""") == ["1 2 3 4 5 PENDING PENDING", "1 2 3 4 5 6 7"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_command(fails: bool) -> None:
    assert said(f"""
class Command(BaseCommand):
    def handle(self, **options):
        with exchange_scope():
            with transaction.atomic():
                callbacks.append(on_commit(ran.append, 1))
                if {fails}:
                    transaction.set_rollback(True)
            callbacks.append(on_commit(ran.append, 2))

callbacks = []
call_command(Command())
say(*ran, *(callback.state.name for callback in callbacks))
""") == ["2 SKIPPED SUCCEEDED" if fails else "1 2 SUCCEEDED SUCCEEDED"]


def test_outside_of_any_exchange() -> None:
    """``OUTSIDE_REQUEST = "run"`` does what ``transaction.on_commit`` does."""
    assert said("""
settings.ASYNC_AFTER = {"OUTSIDE_REQUEST": "run"}
with transaction.atomic():
    callback = on_commit(ran.append, 1)
    say(ran, callback.state.name)
say(ran, callback.state.name)
on_commit(ran.append, 2)
say(ran)
""") == ["[] PENDING", "[1] SUCCEEDED", "[1, 2]"]


# The end of the interpreter.

LATE_WORDS = "its transaction was still open"


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "sys.exit(0)",
        "threading.Thread(target=time.sleep, args=(0.2,)).start()",
    ],
)
def test_a_transaction_that_is_open_at_exit(ending: str) -> None:
    done = run(f"""
def named():
    pass

block = transaction.atomic()
block.__enter__()
with exchange_scope():
    callback = on_commit(named)
at_the_very_end(callback)
{ending}
""")
    assert done.out == ["DROPPED"]
    assert done.named == ["named"]
    assert LATE_WORDS in done.err
    assert "1 callback(s) were lost" in done.err


def test_a_transaction_of_a_daemon_thread_is_open_at_exit() -> None:
    done = run("""
def named():
    pass

def work():
    with transaction.atomic(), exchange_scope():
        callbacks.append(on_commit(named))
        is_registered.set()
        time.sleep(60)

callbacks = []
is_registered = threading.Event()
threading.Thread(target=work, daemon=True).start()
is_registered.wait()
at_the_very_end(*callbacks)
""")
    assert (done.out, done.named) == (["DROPPED"], ["named"])
    assert LATE_WORDS in done.err


def test_a_block_that_the_exit_leaves() -> None:
    assert said("""
with transaction.atomic():
    with exchange_scope():
        at_the_very_end(on_commit(print))
    sys.exit(0)
""") == ["SKIPPED"]


def test_a_transaction_that_commits_while_others_are_waited_for() -> None:
    """At exit. It was in time."""
    done = run("""
def work():
    with transaction.atomic(), exchange_scope():
        callbacks.append(on_commit(committed.set))
        is_registered.set()
        until(is_exiting)

def other():
    until(committed.is_set)
    say("other")

callbacks = []
is_registered, committed = threading.Event(), threading.Event()
with responding(thread_exchange(get_runner())):
    after_response(other)
    threading.Thread(target=work).start()
    is_registered.wait()
at_the_very_end(*callbacks)
""")
    assert done.out == ["other", "SUCCEEDED"]


# Without Django.


def test_django_is_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TOO_LONG,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    sync, in_loop, awaited, loaded = done.stdout.splitlines()
    assert sync == awaited
    assert "using(on_commit=...) needs Django" in sync
    assert "await aafter_response" in in_loop
    assert loaded == "0 []"


_WITHOUT = """
import asyncio, sys
from async_after import *

def tried(registrar):
    try:
        registrar.using(on_commit=True)(int)
    except RuntimeError as error:
        print(error)

async def main():
    tried(after_response)
    try:
        await aafter_response.using(on_commit=True)(int)
    except RuntimeError as error:
        print(error)

with exchange_scope():
    tried(after_response)
    asyncio.run(main())
print(get_runner().statistics().registered, [m for m in sys.modules if m.startswith("django")])
"""
