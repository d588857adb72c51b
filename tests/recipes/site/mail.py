"""Django's file backend, as slow as the test wants it, or out of order."""

import time
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends import filebased

from .names import BROKEN, HELD


class EmailBackend(filebased.EmailBackend):
    def send_messages(self, messages: Sequence[EmailMessage]) -> Any:
        deadline = time.monotonic() + 20
        while (settings.DIRECTORY / HELD).exists():
            if time.monotonic() > deadline:
                raise TimeoutError("nobody has let the mails go")
            time.sleep(0.005)
        if (settings.DIRECTORY / BROKEN).exists():
            raise ConnectionRefusedError("the mail server is out of order")
        return super().send_messages(messages)
