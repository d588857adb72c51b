"""The pytest plugin, in pytest runs of other projects."""

import subprocess
import sys
from pathlib import Path

import pytest

import async_after

ROOT = Path(async_after.__file__).parent.parent

TESTS = """
import asyncio
import pytest
from async_after import CallbackState, after_response, exchange_scope

ran = []

def fail():
    raise ValueError("the callback's")

def register(*functions):
    with exchange_scope():
        return [after_response(function) for function in functions]
"""


class Project:
    """A project without settings, whose pytest finds the plugin as an installed
    package's: by its entry point."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "tests"
        self.site = directory / "site"
        info = self.site / "async_after_plugin-0.dist-info"
        info.mkdir(parents=True)
        self.directory.mkdir()
        (self.directory / "pytest.ini").write_text("[pytest]\n")
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: async-after-plugin\n")
        (info / "entry_points.txt").write_text(
            "[pytest11]\nasync_after=async_after.pytest_plugin\n"
        )

    def run(self, tests: str, *options: str) -> str:
        """What pytest has said at the end, and its exit status."""
        (self.directory / "test_it.py").write_text(TESTS + tests)
        program = (
            f"import sys; sys.path[:0] = [{str(self.site)!r}, {str(ROOT)!r}]\n"
            "import pytest; sys.exit(pytest.main(sys.argv[1:]))"
        )
        unused = [f"-pno:{name}" for name in ("cacheprovider", "xdist", "cov", "hypothesispytest")]
        arguments = ["-q", *unused, *options]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        self.output = done.stdout + done.stderr
        return done.stdout.strip().splitlines()[-1]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_capture_after_response(project: Project) -> None:
    tests = """
def test_captured(capture_after_response):
    with capture_after_response() as captured:
        register(fail)
    assert [each.name for each in captured] == ["test_it.fail"]

def test_executed(capture_after_response):
    with pytest.raises(ValueError), capture_after_response(execute=True):
        register(fail)

@pytest.mark.asyncio
async def test_async(capture_after_response):
    async with capture_after_response(execute=True):
        register(lambda: ran.append(1))
    assert ran == [1]
"""
    assert "3 passed" in project.run(tests), project.output


@pytest.mark.exhaustive
def test_suppress_after_response(project: Project) -> None:
    tests = """
def test_plain(suppress_after_response):
    [callback] = register(fail)
    assert callback.state is CallbackState.SKIPPED

@pytest.mark.asyncio
@pytest.mark.usefixtures("suppress_after_response")
async def test_coroutine():
    [callback] = register(fail)
    assert callback.state is CallbackState.SKIPPED

def test_not_any_more():
    [callback] = register(fail)
    assert callback.state is CallbackState.FAILED
"""
    assert "3 passed" in project.run(tests), project.output


FAILING = """
from async_after.asgi import AfterResponseMiddleware

pytestmark = pytest.mark.usefixtures("raise_callback_errors")

async def request(function):
    async def app(scope, receive, send):
        after_response(function)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async def send(message): pass
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
    await AfterResponseMiddleware(app, hold=False)(scope, None, send)

async def afail():
    await asyncio.sleep(0.01)
    fail()
"""


def test_raise_callback_errors(project: Project) -> None:
    tests = """
def test_good():
    register(int)

def test_bad():
    register(fail)
"""
    assert "2 passed, 1 error" in project.run(FAILING + tests), project.output
    assert "ValueError: the callback's" in project.output
    assert "In callback test_it.fail of exchange_scope()." in project.output


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["asyncio", "anyio"])
def test_raise_callback_errors_of_coroutines(project: Project, kind: str) -> None:
    """On the loop of the test, which stands still afterwards."""
    pytest.importorskip(kind if kind == "anyio" else "pytest_asyncio", reason="an async plugin")
    tests = """
@pytest.mark.KIND
async def test_good():
    await request(lambda: asyncio.sleep(0.01))

@pytest.mark.KIND
async def test_bad():
    await request(afail)

class TestMethods:
    @pytest.mark.KIND
    async def test_bad_method(self):
        await request(afail)
"""
    options = [] if kind == "asyncio" else ["-p", "no:asyncio", "-k", "not trio"]
    last = project.run(FAILING + tests.replace("KIND", kind), *options)
    assert "2 failed, 1 passed" in last, project.output
    assert "In callback test_it.afail of GET /x (200)." in project.output


@pytest.mark.exhaustive
def test_raise_callback_errors_of_unittest(project: Project) -> None:
    tests = """
import unittest

class Plain(unittest.TestCase):
    def test_bad(self):
        register(fail)

class Coroutines(unittest.IsolatedAsyncioTestCase):
    async def test_bad(self):
        await request(fail)
"""
    last = project.run(FAILING + tests)
    assert "2 errors" in last, project.output
    assert project.output.count("E       ValueError: the callback's") == 2


@pytest.mark.exhaustive
def test_it_is_off_where_it_is_not_wanted(project: Project) -> None:
    tests = "def test_it(suppress_after_response): pass"
    assert "1 error" in project.run(tests, "-p", "no:async_after"), project.output
    assert "fixture 'suppress_after_response' not found" in project.output


@pytest.mark.exhaustive
def test_it_loads_little(project: Project) -> None:
    """Neither Django nor the tools, until a test asks for them."""
    tests = """
import sys

def test_it():
    assert "async_after.pytest_plugin" in sys.modules
    assert "async_after.testing" not in sys.modules
    assert not [name for name in sys.modules if name.partition(".")[0] == "django"]
"""
    assert "1 passed" in project.run(tests), project.output
