"""Promise 13, pure_core; and that each promise stands at the head of the file that owns it."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import async_after

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
    """Nor when callbacks run: both lanes look whether Django is there."""
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
    assert sorted(numbers) == list(range(1, 16))
