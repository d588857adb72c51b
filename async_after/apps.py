"""``INSTALLED_APPS = ["async_after"]`` turns on the check of the settings."""

from django.apps import AppConfig
from django.core import checks

from .django.checks import check_settings


class AsyncAfterConfig(AppConfig):
    name = "async_after"

    def ready(self) -> None:
        checks.register(check_settings)
