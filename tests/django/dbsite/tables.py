from django.core.management import call_command
from django.db import connections


def make_tables() -> None:
    """In each of the site's databases."""
    for alias in connections:
        call_command("migrate", run_syncdb=True, verbosity=0, database=alias)
    connections.close_all()
