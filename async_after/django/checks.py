"""System checks. Their ids stay as they are: users silence them by id.

Most ``manage.py`` commands run them, so they are quick. They import no application,
and middleware only where no application is wrapped and ours is not first in
``MIDDLEWARE``. None raises, whatever the settings look like. A false alarm is worse
than a missed one: of what they cannot know they say nothing.
"""

import sys
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.core.checks import CheckMessage, Error

from .._core import conf
from . import applications
from .applications import MIDDLEWARE

TAG = "async_after"

_KILLED_AFTER = 30
"""Seconds: gunicorn's ``graceful_timeout`` and Kubernetes' ``terminationGracePeriodSeconds``."""

_REPLACES_404 = (
    "replaces responses with status 404: callbacks of the view then run before the response is"
    " sent, with a wrong outcome"
)
HARMFUL_OUTSIDE = {
    "django.middleware.http.ConditionalGetMiddleware": (
        "answers 304 or 412 with a response of its own: callbacks of the view then run before that"
        " is sent, with a wrong outcome"
    ),
    "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware": _REPLACES_404,
    "django.contrib.redirects.middleware.RedirectFallbackMiddleware": _REPLACES_404,
    "wagtail.contrib.redirects.middleware.RedirectMiddleware": _REPLACES_404,
    "django.middleware.gzip.GZipMiddleware": (
        "compresses streaming responses, whose outcome then counts the bytes before compression"
    ),
}
"""What may not be outside of our middleware where that ends the exchange.

The rest of Django's leaves us the response that the view has made, or (common,
locale) replaces it only where there is no view. The cache's drops our
closers when it pickles, and when it answers itself, no view has registered anything.
"""


def register_all() -> None:
    always = check_settings, check_protocol, check_places, check_wrapping
    for check in (*always, check_order, check_sync_only, check_uwsgi):
        checks.register(check, TAG)
    # A server may have been told to wait longer: not for every command.
    checks.register(check_shutdown, TAG, deploy=True)


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001: something in the setting ``ASYNC_AFTER`` is wrong."""
    hint = (
        f"Correct ASYNC_AFTER in {_settings_module()}. What is left out of it has its default; the"
        ' README lists all keys under "Settings".'
    )
    return [Error(problem, hint=hint, id="async_after.E001") for problem in conf.problems()]


def check_protocol(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E002: an application is wrapped for the other protocol."""
    found: list[CheckMessage] = []
    for module, protocol, wrapper in applications.wrapped():
        if wrapper in (f"async_after.{protocol}", "async_after.django"):
            continue
        message = (
            f"{_application(module, protocol)} is wrapped in {wrapper}.AfterResponseMiddleware,"
            f" which serves {wrapper.removeprefix('async_after.').upper()} only."
        )
        hint = (
            f"In the module {module} wrap get_{protocol}_application() in the"
            f" AfterResponseMiddleware of async_after.{protocol}."
        )
        found.append(Error(message, hint=hint, id="async_after.E002"))
    return found


def check_places(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E003: a wrapper is in ``MIDDLEWARE``, or the Django middleware around an application."""
    found = [
        (
            f"{path} is in MIDDLEWARE, but is made to wrap an application.",
            f'In MIDDLEWARE in {_settings_module()} write "{MIDDLEWARE}" instead, and put it first.'
            f" {path} belongs around the application, in asgi.py or wsgi.py.",
        )
        for path in applications.middleware()
        if applications.is_misplaced(path)
    ]
    found += [
        (
            f"{_application(module, protocol)} is wrapped in {MIDDLEWARE}, which is made for"
            " MIDDLEWARE.",
            f"In the module {module} write `from async_after.{protocol} import"
            f' AfterResponseMiddleware`. "{MIDDLEWARE}" belongs first in MIDDLEWARE in'
            f" {_settings_module()}.",
        )
        for module, protocol, wrapper in applications.wrapped()
        if wrapper == "async_after.django"
    ]
    return [Error(message, hint=hint, id="async_after.E003") for message, hint in found]


def check_wrapping(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W001: nothing opens an exchange for the requests."""
    modules = applications.unwrapped()
    if not modules or any(
        applications.is_middleware(path) is not False for path in applications.middleware()
    ):
        return []
    message = (
        f'after_response() has no response to wait for in a view: "{MIDDLEWARE}" is not in'
        f" MIDDLEWARE, and no application is wrapped in {' or '.join(modules)}."
    )
    hint = (
        f'Put "{MIDDLEWARE}" first in MIDDLEWARE in {_settings_module()}. Or wrap the application'
        " where your server finds it: in asgi.py"
        " `from async_after.asgi import AfterResponseMiddleware` and"
        " `application = AfterResponseMiddleware(get_asgi_application())`, in wsgi.py the same with"
        " async_after.wsgi and get_wsgi_application. If it is wrapped elsewhere, put"
        ' "async_after.W001" into SILENCED_SYSTEM_CHECKS.'
    )
    return [checks.Warning(message, hint=hint, id="async_after.W001")]


def check_order(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W002: one that stands before our middleware replaces responses."""
    before, ours, _ = applications.around_ours()
    harms = {
        path: HARMFUL_OUTSIDE[name]
        for path in before
        for name in applications.names_of(path)
        if name in HARMFUL_OUTSIDE
    }
    return [
        checks.Warning(
            f"{path} stands before {ours} and {harm}.",
            hint=f'Put "{ours}" first in MIDDLEWARE in {_settings_module()}.',
            id="async_after.W002",
        )
        for path, harm in harms.items()
    ]


def check_sync_only(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W005: under ASGI, one that stands before our middleware decides when callbacks run.

    Not where a synchronous one stands after ours too: Django then calls ours
    as a plain function, which ends with the response. A project that is served
    by WSGI only, but has the ``asgi.py`` of ``startproject``, is warned as well:
    nothing tells it from one that is served by ASGI.
    """
    before, ours, after = applications.around_ours()
    sync_only = list(filter(applications.is_sync_only, before))
    if not sync_only or not applications.has_asgi() or any(map(applications.is_sync_only, after)):
        return []
    hint = (
        f'Put "{ours}" first in MIDDLEWARE in {_settings_module()}, or wrap the application in'
        " asgi.py in async_after.asgi.AfterResponseMiddleware. If only WSGI serves it, put"
        ' "async_after.W005" into SILENCED_SYSTEM_CHECKS.'
    )
    return [
        checks.Warning(
            f"{path} stands before {ours} and is not async_capable. Under ASGI Django then calls"
            " ours by async_to_sync(): callbacks run before the response is sent, with a wrong"
            " outcome.",
            hint=hint,
            id="async_after.W005",
        )
        for path in sync_only
    ]


def check_shutdown(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W003, for ``check --deploy``: a server may kill before the shutdown is over."""
    if conf.problems():
        return []
    seconds = conf.setting("wait_timeout") + conf.setting("close_timeout")
    if seconds < _KILLED_AFTER:
        return []
    message = (
        f"WAIT_TIMEOUT and CLOSE_TIMEOUT in ASYNC_AFTER are {seconds:g} s together. gunicorn and"
        f" Kubernetes kill after {_KILLED_AFTER} s unless told otherwise: callbacks are lost then,"
        " and not named."
    )
    hint = (
        f"Make them less than {_KILLED_AFTER} together in ASYNC_AFTER in {_settings_module()}. Or"
        " let the server wait longer than both (gunicorn's graceful_timeout, Kubernetes'"
        ' terminationGracePeriodSeconds), and put "async_after.W003" into SILENCED_SYSTEM_CHECKS.'
    )
    return [checks.Warning(message, hint=hint, id="async_after.W003")]


def check_uwsgi(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W004: we are in a uWSGI that runs no thread between requests (see ``wsgi.dispatch``)."""
    options = getattr(sys.modules.get("uwsgi"), "opt", None)
    if not isinstance(options, dict) or options.get("enable-threads") or options.get("threads"):
        return []
    if conf.problems() or conf.setting("wsgi_lane") == "inline":
        return []
    message = (
        "uWSGI runs without threads: callbacks run in close(), and the next request of the worker"
        " waits for them."
    )
    hint = (
        "Start uWSGI with --enable-threads (`enable-threads = true` in its .ini file). Or write"
        f' "WSGI_LANE": "inline" into ASYNC_AFTER in {_settings_module()} to say that this is'
        " wanted."
    )
    return [checks.Warning(message, hint=hint, id="async_after.W004")]


def _application(module: str, protocol: str) -> str:
    setting = f"{protocol.upper()}_APPLICATION"
    path = applications.path_in(setting)
    is_there = applications.module_of(path) == module
    return f"{setting}, {path}," if is_there else f"The application in {module}"


def _settings_module() -> str:
    return applications.path_in("SETTINGS_MODULE") or "the settings"
