"""What the site and the tests, which have no Django, both know."""

RECIPES = (
    "analytics",
    "closer",
    "delivered",
    "error_mail",
    "every_100",
    "job_queue",
    "post_log",
    "rate_limit",
    "server_timing",
    "signal_timing",
    "then_callback",
    "view_timing",
    "visits",
)

LIMIT = 20
ALWAYS = 10**10
"""Seconds: one period that does not end while a test runs."""

# Files: as long as one is there, the mail server is so.
HELD = "mails-are-held"
BROKEN = "mails-are-broken"
