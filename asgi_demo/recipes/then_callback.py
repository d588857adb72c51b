"""A response and what is to run after it, in one expression.

For views: where you would write a response class with a callback in its
``close()``. ``then=`` takes a callable without arguments, plain or ``async def``;
``then(response, func, *args)`` does the same for a response that you already have.
"""

from functools import partial

from django.core.mail import mail_managers
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST

from async_after.django import HttpResponseThen, then


@require_POST
def contact(request: HttpRequest) -> HttpResponse:
    """The visitor does not wait for the mail server."""
    message = request.POST.get("message", "").strip()[:5000]
    if not message:
        return HttpResponse("Please write something.", status=400)
    return HttpResponseThen("Thank you.", then=partial(mail_managers, "Contact form", message))


@require_POST
async def acontact(request: HttpRequest) -> HttpResponse:
    """The same, from async code and by the function."""
    message = request.POST.get("message", "").strip()[:5000]
    if not message:
        return HttpResponse("Please write something.", status=400)
    return then(HttpResponse("Thank you."), mail_managers, "Contact form", message)


urlpatterns = [path("contact", contact), path("acontact", acontact)]
