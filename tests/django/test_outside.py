"""Django's middleware outside of ours: what the check W002 says of it is true."""

import io
from collections.abc import Iterable
from typing import Any

import pytest
from django.core.wsgi import get_wsgi_application
from django.test import override_settings

from async_after import CallbackState, Completion, get_runner
from async_after.django.checks import HARMFUL_OUTSIDE
from async_after.wsgi import AfterResponseMiddleware
from tests.django.site import views
from tests.django.test_checks import CONDITIONAL_GET, GZIP, OURS, UPDATE_CACHE

HARMLESS = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    UPDATE_CACHE,
]
"""Those that work without models. The two around users and messages change the request only."""


class Answer:
    """What a server gets of one request, up to ``close()``, and whether callbacks have waited."""

    def __init__(self, app: Any, path: str) -> None:
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "wsgi.input": io.BytesIO(),
            "wsgi.url_scheme": "http",
            "HTTP_ACCEPT_ENCODING": "gzip",
            "HTTP_IF_NONE_MATCH": "*",
        }
        response: Any = app(environ, self._start)
        self.size = sum(map(len, response))
        [callback] = views.registered
        self.has_waited = callback.state is CallbackState.PENDING
        response.close()

    def _start(self, status: str, headers: Iterable[tuple[str, str]], error: Any = None) -> Any:
        self.status = int(status.split()[0])


async def is_right(app: Any, path: str) -> bool:
    """Whether the callback has waited for the end of the response, and knows it."""
    views.todo[:] = [lambda *outcome: None]
    answer = Answer(app, path)
    await get_runner().drain(10)
    [callback] = views.registered
    views.registered.clear()
    outcome = callback.outcome
    assert outcome is not None
    told = (outcome.completion, outcome.status, outcome.body_bytes)
    return answer.has_waited and told == (Completion.SENT, answer.status, answer.size)


SETTINGS = {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}


@pytest.mark.parametrize("path", ["/sync", "/stream"])
@pytest.mark.parametrize("outside", HARMLESS)
async def test_harmless_outside(outside: str, path: str) -> None:
    with override_settings(MIDDLEWARE=[outside, OURS], **SETTINGS):
        assert await is_right(get_wsgi_application(), path)
    assert outside not in HARMFUL_OUTSIDE


HARMFUL = [(CONDITIONAL_GET, "/sync"), (GZIP, "/stream")]


@pytest.mark.parametrize(("outside", "path"), HARMFUL)
async def test_harmful_outside(outside: str, path: str) -> None:
    with override_settings(MIDDLEWARE=[outside, OURS]):
        assert not await is_right(get_wsgi_application(), path)
    assert outside in HARMFUL_OUTSIDE
    with override_settings(MIDDLEWARE=[OURS, outside]):
        assert await is_right(get_wsgi_application(), path)


@pytest.mark.parametrize(("outside", "path"), HARMFUL)
async def test_a_wrapper_makes_them_harmless(outside: str, path: str) -> None:
    with override_settings(MIDDLEWARE=[outside, OURS]):
        assert await is_right(AfterResponseMiddleware(get_wsgi_application()), path)
