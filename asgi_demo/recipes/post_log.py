"""Log every POST to a file of its own, one JSON object a line.

In a module that ``AppConfig.ready()`` imports; ``POST_LOG`` in the settings is the
path of the file. Neither what was posted nor the query string is logged. Several
threads and processes of one machine may write: each line is one ``write`` at the
end of the file (O_APPEND), which stays whole on a local disk; and as the file is
opened for each line, it may be moved away at any time (logrotate).
"""

import json
import os
from typing import Any

from django.conf import settings
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.urls import path

from async_after import Outcome
from async_after.django import response_finished


@receiver(response_finished)
def log_post(outcome: Outcome, **kwargs: Any) -> None:
    if outcome.method != "POST":
        return
    entry = {
        "at": outcome.started_at.isoformat(),
        "path": outcome.path,
        "status": outcome.status,
        "completion": outcome.completion.value,
        "body_bytes": outcome.body_bytes,
        "seconds": round(outcome.duration, 6),
        "process": os.getpid(),
    }
    line = f"{json.dumps(entry)}\n".encode()
    descriptor = os.open(settings.POST_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(descriptor, line) < len(line):  # the disk is full
            raise OSError(f"only a part of a line could be written to {settings.POST_LOG}")
    finally:
        os.close(descriptor)


def form(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse("Thank you." if request.method == "POST" else "Post something.")


urlpatterns = [path("form/<int:number>", form)]
