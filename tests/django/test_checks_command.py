"""``manage.py check`` in a project that ``startproject`` has just made, in asgi_demo, and in a
real uWSGI."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.required import is_required
from tests.wsgi.matrix import why_missing

NO_ISSUES = "System check identified no issues (0 silenced)."
MIDDLEWARE = "async_after.django.AfterResponseMiddleware"

pytestmark = pytest.mark.exhaustive  # each starts ``manage.py`` in a process of its own

Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has installed the app, and forgotten the rest."""
    directory = tmp_path_factory.mktemp("fresh")
    _run(directory, "-m", "django", "startproject", "shop", ".")
    _replace(
        directory / "shop/settings.py", "INSTALLED_APPS = [", "INSTALLED_APPS = ['async_after',"
    )
    return directory


@pytest.fixture
def shop(fresh: Path, tmp_path: Path) -> Path:
    return shutil.copytree(fresh, tmp_path / "shop")


def _run(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"} | variables
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def check(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return _run(directory, "manage.py", "check", *options)


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def wrap(directory: Path, protocol: str) -> None:
    """As the hint has it."""
    file = directory / f"shop/{protocol}.py"
    _replace(file, "import os\n", f"import os\n{IMPORT.replace('asgi', protocol)}\n")
    _replace(file, APPLICATION_WAS.replace("asgi", protocol), APPLICATION.replace("asgi", protocol))


IMPORT = "from async_after.asgi import AfterResponseMiddleware"
APPLICATION = "application = AfterResponseMiddleware(get_asgi_application())"
APPLICATION_WAS = "application = get_asgi_application()"


def put_first(directory: Path, *paths: str) -> None:
    before = "".join(f"{path!r}," for path in paths or [MIDDLEWARE])
    _replace(directory / "shop/settings.py", "MIDDLEWARE = [", f"MIDDLEWARE = [{before}")


def test_a_fresh_project_that_forgot_the_wrapper(shop: Path) -> None:
    done = check(shop)
    assert done.returncode == 0  # it works, but for after_response
    output = output_of(done)
    assert "(async_after.W001)" in output
    assert "no application is wrapped in shop.wsgi or shop.asgi." in output
    [hint] = [line for line in output.splitlines() if "HINT:" in line]
    assert f'Put "{MIDDLEWARE}" first in MIDDLEWARE in shop.settings.' in hint
    assert f"`{IMPORT}` and `{APPLICATION}`" in hint
    assert "System check identified 1 issue (0 silenced)." in output


def test_the_middleware_put_first(shop: Path) -> None:
    put_first(shop)
    assert NO_ISSUES in output_of(check(shop))


@pytest.mark.parametrize("protocol", ["asgi", "wsgi"])
def test_the_application_wrapped(shop: Path, protocol: str) -> None:
    wrap(shop, protocol)
    assert NO_ISSUES in output_of(check(shop))


def test_both(shop: Path) -> None:
    put_first(shop)
    wrap(shop, "asgi")
    wrap(shop, "wsgi")
    assert NO_ISSUES in output_of(check(shop))


def test_an_application_elsewhere(shop: Path) -> None:
    shutil.copy(shop / "shop/asgi.py", shop / "serving.py")
    settings = shop / "shop/settings.py"
    settings.write_text(f"{settings.read_text()}ASGI_APPLICATION = 'serving.application'\n")
    assert "no application is wrapped in shop.wsgi or serving or shop.asgi." in output_of(
        check(shop)
    )
    wrap(shop, "asgi")
    shutil.move(shop / "shop/asgi.py", shop / "serving.py")
    assert NO_ISSUES in output_of(check(shop))


def test_silenced_as_the_hint_has_it(shop: Path) -> None:
    settings = shop / "shop/settings.py"
    settings.write_text(f"{settings.read_text()}SILENCED_SYSTEM_CHECKS = ['async_after.W001']\n")
    assert "System check identified no issues (1 silenced)." in output_of(check(shop))


def test_the_wrapper_of_the_other_protocol_is_an_error(shop: Path) -> None:
    wrap(shop, "wsgi")
    _replace(shop / "shop/wsgi.py", "async_after.wsgi", "async_after.asgi")
    done = check(shop)
    assert done.returncode == 1
    assert "(async_after.E002) WSGI_APPLICATION, shop.wsgi.application, is wrapped" in output_of(
        done
    )


@pytest.mark.parametrize("protocol", ["asgi", "wsgi"])
def test_the_django_middleware_around_an_application(shop: Path, protocol: str) -> None:
    wrap(shop, protocol)
    file = shop / f"shop/{protocol}.py"
    _replace(file, f"async_after.{protocol}", "async_after.django")
    done = check(shop)
    assert done.returncode == 1
    output = output_of(done)
    assert f"is wrapped in {MIDDLEWARE}, which is made for MIDDLEWARE." in output
    assert f"In the module shop.{protocol} write `{IMPORT.replace('asgi', protocol)}`." in output
    assert "(async_after.E003)" in output
    assert "System check identified 1 issue (0 silenced)." in output
    _replace(file, "async_after.django", f"async_after.{protocol}")
    assert NO_ISSUES in output_of(check(shop))


@pytest.mark.parametrize("protocol", ["asgi", "wsgi"])
def test_a_wrapper_in_middleware(shop: Path, protocol: str) -> None:
    wrapper = f"async_after.{protocol}.AfterResponseMiddleware"
    put_first(shop, wrapper)
    done = check(shop)
    assert done.returncode == 1
    output = output_of(done)
    assert f"(async_after.E003) {wrapper} is in MIDDLEWARE" in output
    assert f'In MIDDLEWARE in shop.settings write "{MIDDLEWARE}" instead' in output
    assert "System check identified 1 issue (0 silenced)." in output
    _replace(shop / "shop/settings.py", wrapper, MIDDLEWARE)
    assert NO_ISSUES in output_of(check(shop))


def test_the_demo_is_in_order(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    arguments = ("-m", "django", "check", "--settings", "asgi_demo.settings")
    done = _run(root, *arguments, ASGI_DEMO_DIRECTORY=str(tmp_path))
    assert output_of(done).strip() == NO_ISSUES


def test_the_checks_of_a_deployment(shop: Path) -> None:
    put_first(shop)
    settings = shop / "shop/settings.py"
    settings.write_text(f"{settings.read_text()}ASYNC_AFTER = {{'WAIT_TIMEOUT': 60}}\n")
    assert NO_ISSUES in output_of(check(shop))
    assert "(async_after.W003)" in output_of(check(shop, "--deploy", "--tag", "async_after"))


# uWSGI is where its own module can be imported.

UNDER_UWSGI = """
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["async_after"])
django.setup()
from django.core.checks import run_checks
print("found:", *[message.id for message in run_checks(tags=["async_after"])], flush=True)
raise SystemExit
"""


@pytest.mark.uwsgi
@pytest.mark.usefixtures("server_processes")
@pytest.mark.parametrize(
    ("options", "expected"),
    [([], ["async_after.W004"]), (["--enable-threads"], []), (["--threads", "2"], [])],
)
def test_uwsgi_without_threads(options: list[str], expected: list[str], tmp_path: Path) -> None:
    missing = why_missing("uwsgi")
    if missing is not None:
        assert not is_required("uwsgi"), missing
        pytest.skip(missing)
    (tmp_path / "app.py").write_text(UNDER_UWSGI)
    uwsgi = Path(sys.executable).with_name("uwsgi")
    command = f"{uwsgi} --home {sys.prefix} --need-app --http-socket 127.0.0.1:0 --wsgi-file app.py"
    done = subprocess.run(
        [*command.split(), *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    [found] = [line for line in done.stdout.splitlines() if line.startswith("found:")]
    assert found.split()[1:] == expected
