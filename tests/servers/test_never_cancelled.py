"""Promise 4, never_cancelled_by_the_client: whatever a client does, and whenever, and whatever
its server and its framework make of that, no callback is cancelled.

Each request has callbacks in each lane, in the chain and beside it. They run until the test
lets them end, so that all that is going to be cancelled has been cancelled by then.
"""

from collections.abc import Callable

import pytest

from .client import Client
from .harness import Server
from .matrix import EVERY_MODE, EVERY_ROW
from .site.views import BODY

ALL, AT_ONCE = 6, 4
"""How many callbacks there are, and how many begin at once: one of the chain, and the others."""
CALLBACKS = f"n={ALL}&kind=all&gated"


def in_an_async_view(server: Server, client: Client, ident: str) -> None:
    """Django cancels the view."""
    client.send(f"/slow-async/{ident}?{CALLBACKS}")
    server.wait(ident, "in view")


def in_a_sync_view(server: Server, client: Client, ident: str) -> None:
    client.send(f"/slow-sync/{ident}?{CALLBACKS}")
    server.wait(ident, "in view")


def in_the_body(server: Server, client: Client, ident: str) -> None:
    client.send(f"/endless/{ident}?{CALLBACKS}")
    client.head()
    assert client.chunk() == BODY


def with_an_unread_body(server: Server, client: Client, ident: str) -> None:
    client.send(f"/big/{ident}?parts=24&endless&{CALLBACKS}")
    client.head()


def behind_an_async_view(server: Server, client: Client, ident: str) -> None:
    assert client.get(f"/async/{ident}?{CALLBACKS}").body == BODY
    server.wait(ident, "outcome")


def behind_a_sync_view(server: Server, client: Client, ident: str) -> None:
    assert client.get(f"/sync/{ident}?{CALLBACKS}").body == BODY
    server.wait(ident, "outcome")


def behind_a_body(server: Server, client: Client, ident: str) -> None:
    assert client.get(f"/async/{ident}?framing=stream&{CALLBACKS}").body == BODY
    server.wait(ident, "outcome")


def in_the_next_view(server: Server, client: Client, ident: str) -> None:
    """That of another request on the same connection."""
    behind_an_async_view(server, client, ident)
    following = server.new_ident()
    client.send(f"/slow-async/{following}?n=0")
    server.wait(following, "in view")


Moment = Callable[[Server, Client, str], None]
IN_THE_MIDDLE: list[Moment] = [
    in_an_async_view,
    in_a_sync_view,
    behind_an_async_view,
    behind_a_sync_view,
    behind_a_body,
    in_the_next_view,
]
IN_THE_BODY: list[Moment] = [in_the_body, with_an_unread_body]
"""Who has only half closed may still read it: nobody takes that for an end."""


def named(moment: object) -> str | None:
    return getattr(moment, "__name__", None)


@pytest.mark.promise("never_cancelled_by_the_client")
@pytest.mark.first_hour(row=EVERY_MODE)
@EVERY_ROW
@pytest.mark.parametrize(
    ("moment", "end"),
    [
        *((moment, end) for moment in IN_THE_MIDDLE for end in ("FIN", "RST", "half-close")),
        *((moment, end) for moment in IN_THE_BODY for end in ("FIN", "RST")),
    ],
    ids=named,
)
def test_never_cancelled_by_the_client(server: Server, moment: Moment, end: str) -> None:
    ident = server.new_ident()
    with server.connect(receive_buffer=4096) as client:
        moment(server, client, ident)
        client.leave(end)
        # The server has time to react: others are answered.
        for _ in range(3):
            server.get(f"/plain-async/{server.new_ident()}")
        server.release(f"view-{ident}")
        server.wait(ident, "start", AT_ONCE)
        assert not server.events(ident, "end")
        server.release(ident)
        server.wait(ident, "end", ALL)
    assert not server.events(ident, "callback cancelled"), server.report()
