"""Mail the admins when a view has failed, after the response has been sent.

A class for MIDDLEWARE, anywhere behind ``async_after.django.AfterResponseMiddleware``.
Unlike logging's ``AdminEmailHandler`` (take that out of LOGGING), a slow mail server
holds no error page up. One mail per place and QUIET seconds, by Django's cache; the
mail holds the traceback, but no message, path or variable, which may be secret.
Django tells middleware what views raise, not what other middleware does.
"""

import hashlib
import traceback
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.cache import cache
from django.core.mail import mail_admins
from django.http import HttpRequest, HttpResponse
from django.urls import path

from async_after import Outcome, after_response

QUIET = 300


class MailErrorsMiddleware:
    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        """Django calls this with what a view raised: also with a 404, which is none of ours."""
        match = request.resolver_match
        route = "no route" if match is None else match.route
        register = after_response.using(when=_is_server_error, takes_outcome=True)
        register(_mail_error, error, route)


def _is_server_error(outcome: Outcome) -> bool:
    return outcome.status is None or outcome.status >= 500


def _mail_error(outcome: Outcome, error: Exception, route: str) -> None:
    stack = "".join(traceback.format_tb(error.__traceback__))
    kind = type(error).__qualname__
    key = f"error-mail-{hashlib.sha256(f'{kind} {stack}'.encode()).hexdigest()}"
    if not cache.add(key, True, QUIET):
        return
    try:
        told = f"{outcome.method} {route}: {outcome.status}, {outcome.completion.value}"
        mail_admins(f"{kind} in {route}", f"{told}\n\n{stack}{kind}")
    except BaseException:
        cache.delete(key)  # the next one tries again, and async_after logs this one
        raise


def fail(request: HttpRequest, token: str) -> HttpResponse:
    raise RuntimeError(f"the token is {token}")


urlpatterns = [path("fail/<token>", fail)]
