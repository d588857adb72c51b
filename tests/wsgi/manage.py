"""``python -m tests.wsgi.manage MODULE:APPLICATION runserver ...``."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    _, app, *arguments = sys.argv
    is_alone = app.startswith("tests.wsgi.site.alone:")
    os.environ["DJANGO_SETTINGS_MODULE"] = (
        "tests.wsgi.site.settings_alone" if is_alone else "tests.wsgi.site.settings"
    )
    execute_from_command_line(["manage.py", *arguments])
