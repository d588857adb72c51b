"""The project of all recipes, served, and what a test sees of it from outside."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.servers.client import DEADLINE, Client
from tests.servers.harness import ROOT, Event, Server, wait_until
from tests.servers.launch import HOST, Config

DIRECTORY = "ASYNC_AFTER_RECIPES"
MAIL_END = b"-" * 79


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    def __init__(self, server: str, directory: Path) -> None:
        self.name = server
        self.directory = directory
        self.temporary = directory / "tmp"
        self.temporary.mkdir(parents=True)
        module = "asgi" if server == "uvicorn" else "wsgi"
        config = Config(
            app=f"tests.recipes.site.{module}:application",
            server=server,
            env=((DIRECTORY, str(directory)), ("TMPDIR", str(self.temporary))),
        )
        _make_tables(directory)
        self.server = Server(config, directory)
        self._lock = threading.Lock()
        self.asked = 0
        """How many requests it has been sent."""

    # Requests.

    def get(self, target: str) -> Reply:
        return self._ask("GET", target, None)

    def post(self, target: str, **fields: str) -> Reply:
        return self._ask("POST", target, urlencode(fields))

    def at_once(self, ask: Callable[[int], Reply], number: int) -> list[Reply]:
        with ThreadPoolExecutor(16) as threads:
            return list(threads.map(ask, range(number)))

    def connect(self, target: str) -> Client:
        """A GET whose response the test reads itself."""
        self._count()
        client = self.server.connect()
        client.send(target)
        return client

    def _ask(self, method: str, target: str, body: str | None) -> Reply:
        self._count()
        connection = HTTPConnection(HOST, self.server.port, timeout=DEADLINE)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def _count(self) -> None:
        with self._lock:
            self.asked += 1

    # Effects.

    def wait(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, lambda: f"{what}: not in time\n{self.log()}\n{self.server.report()}")

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def lines(self, recipe: str, part: str) -> list[str]:
        """What this recipe's logger has said, as ``LEVEL message``: lines with ``part``."""
        found = re.findall(rf"^([A-Z]+) asgi_demo\.recipes\.{recipe}: (.*)$", self.log(), re.M)
        return [f"{level} {text}" for level, text in found if part in text]

    def line(self, recipe: str, part: str) -> str:
        self.wait(lambda: self.lines(recipe, part), f"a line of {recipe} with {part!r}")
        (line,) = self.lines(recipe, part)
        return line

    def mails(self) -> list["Message[str, str]"]:
        """Those that are complete."""
        files = sorted((self.directory / "mails").glob("*.log"))
        texts = [path.read_bytes().rstrip() for path in files]
        return [
            message_from_bytes(text.removesuffix(MAIL_END))
            for text in texts
            if text.endswith(MAIL_END)
        ]

    def mail(self, subject: str) -> str:
        """The text of the only mail with this in its subject."""
        found: list[Message[str, str]] = []

        def is_there() -> bool:
            found[:] = [mail for mail in self.mails() if subject in str(mail["Subject"])]
            return bool(found)

        self.wait(is_there, f"a mail about {subject!r}")
        (mail,) = found
        body = mail.get_payload(decode=True)
        assert isinstance(body, bytes)
        return body.decode()

    @contextmanager
    def state(self, name: str) -> Iterator[None]:
        """Of the mail server: ``HELD`` or ``BROKEN``."""
        path = self.directory / name
        path.touch()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def ended(self, path: str, name: str) -> Event:
        """How the only callback with this in its name has ended, of the request for ``path``."""
        found: list[Event] = []

        def is_there() -> bool:
            events = self.server.events(path, "callback")
            found[:] = [event for event in events if name in event["name"]]
            return bool(found)

        self.wait(is_there, f"the end of {name} of {path}")
        (event,) = found
        return event

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.directory / "database.sqlite3")) as database:
            return database.execute(query).fetchall()

    # The end.

    def stop(self) -> None:
        try:
            self.server.check()
        finally:
            self.server.stop()


def _make_tables(directory: Path) -> None:
    arguments = ["migrate", "--run-syncdb", "--settings", "tests.recipes.site.settings"]
    subprocess.run(
        [sys.executable, "-m", "django", *arguments],
        cwd=ROOT,
        env={**os.environ, DIRECTORY: str(directory)},
        check=True,
        capture_output=True,
        timeout=60,
    )
