"""``python -m tests.servers.delivery.manage MODULE:APPLICATION HOST:PORT``: runserver."""

import sys

from django.conf import settings
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    _, app, address = sys.argv
    settings.configure(
        SECRET_KEY="for tests only",
        ALLOWED_HOSTS=["127.0.0.1"],
        WSGI_APPLICATION=app.replace(":", "."),
    )
    execute_from_command_line(["manage.py", "runserver", "--noreload", address])
