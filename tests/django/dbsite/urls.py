from django.urls import path

from . import commits, views

urlpatterns = [
    path("sync/<ident>", views.sync_view),
    path("async/<ident>", views.async_view),
    path("ended/<ident>", views.ended),
    path("state", views.state),
    path("commits/sync/<name>/<ident>", commits.sync_view),
    path("commits/async/<name>/<ident>", commits.async_view),
    path("commits/raising/<name>/<ident>", commits.raising_view),
    path("commits/stream/<how>/<ident>", commits.stream),
    path("commits/astream/<how>/<ident>", commits.astream),
    path("states/<ident>", commits.states),
    path("let/<ident>/<how>", commits.let),
]
