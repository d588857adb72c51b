"""``INSTALLED_APPS = ["async_after"]`` turns on the system checks."""

from django.apps import AppConfig

from .django.checks import register_all


class AsyncAfterConfig(AppConfig):
    name = "async_after"

    def ready(self) -> None:
        register_all()
