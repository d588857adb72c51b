"""The apps under test, one module per framework. The environment says which way is meant."""

BROKER = "RIVALS_BROKER"
"""The environment variable with the URL of Celery's broker."""
