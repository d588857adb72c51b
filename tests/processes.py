"""Which tests start server processes, and that no other test does.

Who starts one asks for the fixture ``server_processes``, himself or by a fixture that does.
All other tests are marked ``in_process``, and what starts servers refuses to do it for them.
"""

import pytest

FIXTURE = "server_processes"
IN_PROCESS = "in_process"

_running: list[pytest.Item] = []
"""The test that runs now. None while somebody else uses what starts servers."""


def starts_servers(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ())


def begin(item: pytest.Item) -> None:
    _running[:] = [item]


def end() -> None:
    _running.clear()


def refuse_in_process(what: str) -> None:
    """Called by whatever is about to start a server process."""
    for item in _running:
        if item.get_closest_marker(IN_PROCESS) is not None:
            raise AssertionError(
                f"{item.nodeid} is marked {IN_PROCESS} and starts {what}:"
                f" it must ask for the fixture {FIXTURE}"
            )
