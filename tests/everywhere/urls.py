from django.urls import path

from . import promises, responses, views  # noqa: F401  fill SERVED
from .serving import SERVED, told

urlpatterns = [path("told/<ident>", told)]
for name, (view, aview) in SERVED.items():
    urlpatterns += [path(f"sync/{name}/<ident>", view), path(f"async/{name}/<ident>", aview)]
