"""Runs WSGI servers as ``tests/servers/harness.py`` runs the others."""

from pathlib import Path

from ..servers import harness
from ..servers.harness import Event
from ..servers.launch import Config
from .client import Client
from .site.content import FILE_SIZE, file_path


class Server(harness.Server):
    _blamed: frozenset[str] = frozenset()

    @property
    def events_path(self) -> str:
        return str(self._events_path)

    def connect(self, *, receive_buffer: int | None = None) -> Client:
        return Client(self.port, self.report, receive_buffer)

    def check(self) -> None:
        """What holds for all requests of this server, whoever made them."""
        wrong = set(premature(self.events())) - self._blamed
        self._blamed |= wrong  # on the test that has made them
        assert not wrong, f"callbacks that began too early: {wrong}\n{self.report()}"
        stderr = self.stderr()
        for sign in ("was never awaited", "was destroyed but", "exception was never retrieved"):
            assert sign not in stderr, f"{sign}\n{self.report()}"

    def position(self, ident: str, event: str) -> int:
        """Of the first such event among all events."""
        (first, *_) = self.events(ident, event)
        return self.events().index(first)


class Servers(harness.Servers):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        make_file(directory)

    def start(self, config: Config) -> Server:
        return Server(config, self._directory)


def make_file(directory: Path) -> None:
    """The big file of the site: each part of it is different."""
    lines = (b"%015d\n" % number for number in range(FILE_SIZE // 16))
    file_path(str(directory / "events")).write_bytes(b"".join(lines))


_BEGINNINGS = {"start", "outcome"}


def premature(events: list[Event]) -> list[str]:
    """The requests of which a callback began before the server had called
    ``close()`` of the response or, where the app failed, before it had the error."""
    over: set[str] = set()
    wrong = []
    for event in events:
        if event["event"] in ("closing", "raised"):
            over.add(event["id"])
        elif event["event"] in _BEGINNINGS and event["id"] not in over:
            wrong.append(event["id"])
    return wrong
