"""A process that asks the project through Django's ``Client`` or ``AsyncClient``.

``python -m tests.everywhere.clients sync|async``: a JSON line in on stdin is a
request, one out on stdout its response. A process of its own, because a
process has one Django, and the other tests have theirs.
"""

import asyncio
import json
import os
import sys
from typing import Any

import django
from django.test import AsyncClient, Client

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.everywhere.settings"


def read() -> dict[str, Any] | None:
    line = sys.stdin.readline()
    asked: dict[str, Any] | None = json.loads(line) if line else None
    return asked


def tell(response: Any, body: bytes) -> None:
    headers = {name.lower(): value for name, value in response.headers.items()}
    told = {"status": response.status_code, "headers": headers, "body": body.decode("latin-1")}
    sys.stdout.write(f"{json.dumps(told)}\n")
    sys.stdout.flush()


def serve() -> None:
    client = Client(raise_request_exception=False)
    while (asked := read()) is not None:
        response: Any = client.generic(**asked)
        # A stream is read by the test; its callbacks wait for that.
        tell(response, b"".join(response) if response.streaming else response.content)


async def aserve() -> None:
    client = AsyncClient(raise_request_exception=False)
    while (asked := await asyncio.to_thread(read)) is not None:
        requested: Any = client.generic(**asked)
        response = await requested
        parts = [part async for part in response] if response.streaming else [response.content]
        tell(response, b"".join(parts))


if __name__ == "__main__":
    django.setup()
    if sys.argv[1] == "sync":
        serve()
    else:
        asyncio.run(aserve())
