"""System checks, with ids that stay."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error

from .. import conf


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """``async_after.E001``: something in the setting ``ASYNC_AFTER`` is wrong."""
    return [Error(problem, id="async_after.E001") for problem in conf.problems()]
