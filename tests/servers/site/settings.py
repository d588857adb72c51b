import json
import os

SECRET_KEY = "for tests only"
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.servers.site.urls"
INSTALLED_APPS: list[str] = []
MIDDLEWARE = ["django.middleware.http.ConditionalGetMiddleware"]
USE_TZ = True
TIME_ZONE = "UTC"
LOGGING_CONFIG = None  # warnings and worse go to stderr, which a failing test shows
# What a test wants: see ``launch.Config.settings``.
ASYNC_AFTER = json.loads(os.environ.get("ASYNC_AFTER_TEST_SETTINGS", "{}"))
