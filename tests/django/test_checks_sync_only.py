"""W005, by ``manage.py check`` in a project of ``startproject``: what is not async_capable and
stands before our middleware."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .test_checks_command import (
    MIDDLEWARE,
    NO_ISSUES,
    check,
    fresh,
    output_of,
    put_first,
    shop,
    wrap,
)

__all__ = ["fresh", "shop"]  # fixtures

OWN = """
from functools import wraps
from async_after.django import AfterResponseMiddleware
from django.utils.decorators import async_only_middleware, sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject

def function(get_response):
    return get_response

@sync_and_async_middleware
def both(get_response):
    return get_response

@wraps(both)
def wraps_both(get_response):
    return get_response

@async_only_middleware
def async_only(get_response):
    return get_response

class Plain:
    def __init__(self, get_response): ...

class Capable(Plain):
    async_capable = True

class NoLonger(Capable):
    async_capable = False

class Mixin(MiddlewareMixin): ...

class Ours(AfterResponseMiddleware): ...

lazy = SimpleLazyObject(lambda: 1 / 0)
"""
LIKE_WHITENOISE = """
class Base:
    def __init__(self, get_response): ...

class StaticFilesMiddleware(Base):
    def __call__(self, request): ...
"""
ENDS = "raise SystemExit\n"

STATIC = "like_whitenoise.middleware.StaticFilesMiddleware"
(FUNCTION, BOTH, WRAPS_BOTH, ASYNC_ONLY, PLAIN, CAPABLE, NO_LONGER, MIXIN, OURS, LAZY) = (
    f"shop.middleware.{name}"
    for name in (
        *("function", "both", "wraps_both", "async_only", "Plain", "Capable", "NoLonger"),
        *("Mixin", "Ours", "lazy"),
    )
)


@pytest.fixture
def site(shop: Path) -> Path:
    (shop / "shop/middleware.py").write_text(OWN)
    (shop / "shop/ends.py").write_text(ENDS)
    (shop / "like_whitenoise").mkdir()
    (shop / "like_whitenoise/__init__.py").touch()
    (shop / "like_whitenoise/middleware.py").write_text(LIKE_WHITENOISE)
    return shop


def warned(directory: Path, *options: str) -> list[tuple[str, str]]:
    """Who is named, and before which of ours it stands. There is no other message."""
    done = check(directory, *options)
    assert done.returncode == 0
    output = output_of(done)
    found = re.findall(r"\(async_after\.W005\) (\S+) stands before (\S+) and is not", output)
    assert f"identified {len(found) or 'no'} issue" in output
    return found


@pytest.mark.parametrize(
    ("paths", "named"),
    [
        ([FUNCTION, MIDDLEWARE], [FUNCTION]),
        ([PLAIN, MIDDLEWARE], [PLAIN]),
        ([NO_LONGER, MIDDLEWARE], [NO_LONGER]),
        ([STATIC, MIDDLEWARE], [STATIC]),
        ([STATIC, CAPABLE, FUNCTION, MIDDLEWARE], [STATIC, FUNCTION]),
        ([CAPABLE, BOTH, WRAPS_BOTH, ASYNC_ONLY, MIXIN, MIDDLEWARE], []),
        ([MIDDLEWARE, FUNCTION, STATIC], []),
        # Django calls ours as a plain function here.
        ([FUNCTION, MIDDLEWARE, PLAIN], []),
        ([FUNCTION, "async_after.django.middleware.AfterResponseMiddleware"], [FUNCTION]),
        ([FUNCTION, OURS], [FUNCTION]),
        ([OURS, FUNCTION, MIDDLEWARE], []),
    ],
)
def test_what_stands_before_ours(paths: list[str], named: list[str], site: Path) -> None:
    put_first(site, *paths)
    ours = next(path for path in paths if "async_after" in path or path == OURS)
    assert warned(site) == [(path, ours) for path in named]


def test_what_cannot_be_known(site: Path) -> None:
    """With our checks only: Django's own load the proxy, and end with the module."""
    put_first(site, LAZY, "shop.nowhere.Middleware", "shop.ends.Middleware", MIDDLEWARE)
    assert warned(site, "--tag", "async_after") == []


def test_the_hint_helps(site: Path) -> None:
    put_first(site, FUNCTION, MIDDLEWARE)
    [hint] = [line for line in output_of(check(site)).splitlines() if "HINT:" in line]
    assert f'Put "{MIDDLEWARE}" first in MIDDLEWARE in shop.settings' in hint
    put_first(site, MIDDLEWARE)
    assert NO_ISSUES in output_of(check(site))


def _serve_elsewhere(directory: Path) -> None:
    shutil.move(directory / "shop/asgi.py", directory / "serving.py")
    settings = directory / "shop/settings.py"
    settings.write_text(f"{settings.read_text()}ASGI_APPLICATION = 'serving.application'\n")


def _serve_wsgi_only(directory: Path) -> None:
    (directory / "shop/asgi.py").unlink()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda directory: wrap(directory, "asgi"), []),
        (lambda directory: wrap(directory, "wsgi"), []),  # who wraps that one serves WSGI
        (_serve_wsgi_only, []),
        (_serve_elsewhere, [(FUNCTION, MIDDLEWARE)]),
    ],
)
def test_only_where_asgi_serves_it_unwrapped(
    change: Callable[[Path], None], expected: list[tuple[str, str]], site: Path
) -> None:
    put_first(site, FUNCTION, MIDDLEWARE)
    change(site)
    assert warned(site) == expected


TRACE = "from pathlib import Path\nPath(__file__).with_suffix('.imported').touch()\n"


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_what_is_imported(is_wrapped: bool, shop: Path) -> None:
    """No application, and no middleware if one is wrapped or ours is first."""
    for name in ("asgi", "wsgi", "middleware"):
        file = shop / f"shop/{name}.py"
        file.write_text(TRACE + (file.read_text() if file.exists() else OWN))
    settings = shop / "shop/settings.py"
    settings.write_text(f"{settings.read_text()}INSTALLED_APPS = ['async_after']\n")
    if is_wrapped:
        wrap(shop, "asgi")
        put_first(shop, FUNCTION)
    else:
        put_first(shop, MIDDLEWARE, FUNCTION)
    assert NO_ISSUES in output_of(check(shop, "--tag", "async_after"))
    assert not list(shop.glob("**/*.imported"))
