"""Promise 4, never_cancelled_by_the_client, under WSGI (see ``tests/servers``).

No server interrupts a thread because its client has gone. Some raise in ``close()`` what the
socket has told them, or leave ``close()`` out; and where callbacks run in it they are in the
middle of all that.
"""

from collections.abc import Callable

import pytest

from .client import Client
from .harness import Server
from .matrix import EVERY_MODE, EVERY_ROW, Row
from .site.content import BODY

PARTS = 300


class Wanted:
    """How many callbacks, and how many begin at once: one of the chain, and the others."""

    def __init__(self, row: Row) -> None:
        # The gates of the test know no native loop.
        is_green = row.config.server == "gunicorn-gevent"
        self.number, self.at_once = (4, 3) if is_green else (6, 4)
        self.query = f"n={self.number}&kind={'plain' if is_green else 'all'}&gated"


def in_the_view(server: Server, client: Client, ident: str, wanted: Wanted) -> None:
    client.send(f"/waits/{ident}?{wanted.query}")
    server.wait(ident, "in view")


def in_the_body(server: Server, client: Client, ident: str, wanted: Wanted) -> None:
    client.send(f"/big/{ident}?parts={PARTS}&{wanted.query}")
    client.head()
    client.some()


def behind_it(server: Server, client: Client, ident: str, wanted: Wanted) -> None:
    assert client.get(f"/view/{ident}?{wanted.query}").body == BODY
    server.wait(ident, "start", wanted.at_once)


Moment = Callable[[Server, Client, str, Wanted], None]
MOMENTS: list[Moment] = [in_the_view, in_the_body, behind_it]


@pytest.mark.promise("never_cancelled_by_the_client")
@pytest.mark.first_hour(row=EVERY_MODE)
@EVERY_ROW
@pytest.mark.parametrize("end", ["FIN", "RST", "half-close"])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_never_cancelled_by_the_client(server: Server, row: Row, moment: Moment, end: str) -> None:
    if moment is in_the_body and end == "half-close":
        pytest.skip("who has only half closed may still read the rest")
    ident, wanted = server.new_ident(), Wanted(row)
    with server.connect(receive_buffer=4096) as client:
        moment(server, client, ident, wanted)
        client.leave(end)
        server.release(f"view-{ident}")
        server.wait(ident, "start", wanted.at_once)
        assert not server.events(ident, "end")
        server.release(ident)
        server.wait(ident, "end", wanted.number)
    assert not server.events(ident, "callback cancelled"), server.report()
