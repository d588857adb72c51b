from django.urls import path

from . import views

urlpatterns = [
    path("sync/<ident>", views.sync_view),
    path("async/<ident>", views.async_view),
    path("ended/<ident>", views.ended),
    path("state", views.state),
]
