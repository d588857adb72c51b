"""Promise 13, pure_core; and that each promise stands at the head of the file that owns it."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import async_after

from ..servers.launch import WRAPPER, WSGI

ROOT = Path(async_after.__file__).parent.parent


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_pure_core() -> None:
    """A program without Django never loads it; all public names are there."""
    done = run(
        "import sys, async_after, async_after.asgi\n"
        "assert all(hasattr(async_after, name) for name in async_after.__all__)\n"
        "print(*sorted(n for n in sys.modules if n.partition('.')[0] == 'django'))"
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_pure_core_at_work() -> None:
    """Nor when callbacks run: loop and threads look whether Django is there."""
    done = run(
        "import sys, asyncio\n"
        "from async_after import after_response, exchange_scope\n"
        "async def f(): await asyncio.sleep(0)\n"
        "with exchange_scope() as exchange: after_response(f), after_response(int)\n"
        "late = after_response.using(request={'async_after.exchange': exchange})(int)\n"
        "assert exchange.idle_latch().wait_in_thread(10)\n"
        "assert late.result() == 0\n"
        "print(*sorted(n for n in sys.modules if n.partition('.')[0] == 'django'))"
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


ASGI = """
from async_after.asgi import AfterResponseMiddleware
import asyncio
async def app(scope, receive, send):
    registered.append(after_response(int))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
async def main():
    async def send(message): pass
    scope = {"type": "http", "method": "GET", "path": "/"}
    await AfterResponseMiddleware(app, hold=False)(scope, None, send)
    await get_runner().drain(10)
asyncio.run(main())
"""
UNDER_WSGI = """
from async_after.wsgi import AfterResponseMiddleware
def app(environ, start_response):
    registered.append(after_response(int))
    start_response("200 OK", [])
    return [b""]
environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/"}
body = AfterResponseMiddleware(app, lane="inline")(environ, lambda status, headers: None)
body.close()
"""


@pytest.mark.parametrize(
    "served",
    [
        pytest.param(ASGI, id="ASGI", marks=pytest.mark.promise("pure_core", way=WRAPPER)),
        pytest.param(UNDER_WSGI, id="WSGI", marks=pytest.mark.promise("pure_core", way=WSGI)),
    ],
)
def test_pure_core_behind_a_wrapper(served: str) -> None:
    done = run(
        "import sys\n"
        "from async_after import after_response, get_runner\n"
        "registered = []\n"
        f"{served}\n"
        "assert registered[0].result() == 0\n"
        "print(*sorted(n for n in sys.modules if n.partition('.')[0] == 'django'))"
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_imports_point_down() -> None:
    """The contracts in pyproject.toml hold."""
    done = run(
        "import sys; sys.argv = ['lint-imports', '--no-cache']\n"
        "from importlinter.cli import lint_imports_command\n"
        "lint_imports_command()"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_each_promise_has_an_owner() -> None:
    numbers: dict[int, list[str]] = {}
    modules = [
        module.name for module in pkgutil.walk_packages(async_after.__path__, "async_after.")
    ]
    for name in ["async_after", *modules]:
        head = importlib.import_module(name).__doc__ or ""
        for number in re.findall(r"^Promise (\d+), \w+: ", head, flags=re.MULTILINE):
            numbers.setdefault(int(number), []).append(name)
    assert sorted(numbers) == list(range(1, 17))
