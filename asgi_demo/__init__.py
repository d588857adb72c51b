"""A Django project that shows async_after at work: ``python -m asgi_demo``."""
