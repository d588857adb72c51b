"""The code blocks of README.md run, and do what the text says."""

import asyncio
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from django.conf import settings
from django.test import override_settings
from django.urls import path
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from async_after import asgi, get_runner, wsgi
from async_after._core.conf import SETTINGS, problems

from .test_alone import TIMEOUT, Exchange

README = Path(__file__).parents[2] / "README.md"


def run_blocks() -> dict[str, Any]:
    document = Sybil(parsers=[PythonCodeBlockParser()], path=str(README.parent)).parse(README)
    document.namespace["__name__"] = "readme"
    applications: dict[type, object] = {}
    for example in document.examples():
        example.evaluate()
        application = document.namespace.get("application")
        applications[type(application)] = application
    document.namespace["applications"] = applications
    return document.namespace


@pytest.mark.parametrize("where", ["asgi", "wsgi"])
async def test_readme(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    called: list[tuple[str, int]] = []

    def send_receipt(order: int) -> None:
        called.append(("receipt", order))

    async def notify_warehouse(order: int) -> None:
        await asyncio.sleep(0)
        called.append(("warehouse", order))

    with override_settings(MIDDLEWARE=[]):
        names = run_blocks()
        names.update(send_receipt=send_receipt, notify_warehouse=notify_warehouse)
        assert capsys.readouterr().out == "runs before the block is left\n"

        class URLs:
            urlpatterns = [  # noqa: RUF012
                path("checkout", names["checkout"]),
                path("report", names["report"]),
            ]

        with override_settings(ROOT_URLCONF=URLs):
            for target in ("/checkout", "/report"):
                if where == "asgi":
                    exchange = Exchange(target)
                    await exchange.run(names["applications"][asgi.AfterResponseMiddleware])
                    assert exchange.is_complete
                else:
                    application = names["applications"][wsgi.AfterResponseMiddleware]
                    await asyncio.to_thread(ask, application, target)
                await get_runner().drain(TIMEOUT)
    assert called == [("receipt", 1), ("warehouse", 1)]
    assert capsys.readouterr().out.startswith("anna sent 200 2 0.")


def ask(application: Any, target: str) -> None:
    """As a WSGI server does."""
    environ: dict[str, Any] = {"PATH_INFO": target}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    body = application(environ, lambda status, *_: statuses.append(status))
    assert b"".join(body)
    body.close()
    assert statuses == ["200 OK"]


def test_readme_names_every_setting() -> None:
    names = run_blocks()
    assert names["MIDDLEWARE"] == settings.MIDDLEWARE[:1]
    assert sorted(names["ASYNC_AFTER"]) == [*SETTINGS]
    with override_settings(ASYNC_AFTER=names["ASYNC_AFTER"]):
        assert problems() == []


def test_the_first_screen_is_short() -> None:
    text = README.read_text()
    assert len(text[: text.index("## What you can rely on")].splitlines()) < 50


def test_the_two_commands_are_those_of_the_ci() -> None:
    lines = README.read_text().splitlines()
    commands = [line for line in lines if line.startswith("python -m pip install")]
    assert commands == [
        "python -m pip install -e '.[demo]' && python -m asgi_demo",
        "python -m pip install -e '.[test]' && python -m pytest",
    ]
