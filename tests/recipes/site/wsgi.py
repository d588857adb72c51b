"""Without a wrapper: the Django middleware alone."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.recipes.site.settings"

from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
