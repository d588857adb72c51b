from django.urls import include, path

from . import views
from .names import RECIPES

urlpatterns = [
    *(path(f"{name}/", include(f"asgi_demo.recipes.{name}")) for name in RECIPES),
    path("site/", include(views)),
]
