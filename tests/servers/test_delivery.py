"""What ``Outcome.delivery`` and ``wait_delivered`` say, on every ASGI server, against
what the client's kernel has received.

``python -m pytest tests/servers/test_delivery.py -n 0 -s -k hypercorn`` prints the table of
one server.
"""

import pytest

from async_after._core.delivery import Delivery

from .delivery.table import lines_of, shown, table
from .harness import Server
from .launch import Config

APP = "tests.servers.delivery.asgi:application"

SHOWN = [
    Config(APP, http="httptools", loop="asyncio"),
    Config(APP, http="httptools", loop="uvloop"),
    Config(APP, http="h11", loop="asyncio"),
    Config(APP, server="gunicorn-uvicorn"),
    Config(APP, server="hypercorn"),
    Config(APP, server="gunicorn-asgi"),
]
HIDDEN = [
    Config(APP, server="granian"),
    Config(APP, server="daphne"),
    Config("tests.servers.delivery.asgi:behind", http="httptools", loop="asyncio"),
]


@pytest.mark.parametrize("config", SHOWN, ids=str)
def test_a_server_that_shows_the_connection(server: Server) -> None:
    for line in table(server):
        if line.client == "reads all":
            assert line.waited is Delivery.ACKNOWLEDGED, line


@pytest.mark.parametrize("config", HIDDEN, ids=str)
def test_a_server_that_shows_none(server: Server) -> None:
    lines = [*lines_of(server)]
    print(shown(str(server.config), lines))
    for line in lines:
        expected = Delivery.HANDED if line.completion == "SENT" else Delivery.NONE
        assert line.sealed is line.waited is expected, line
