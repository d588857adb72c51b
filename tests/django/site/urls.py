from django.urls import path

from . import views

urlpatterns = [
    path("sync", views.sync_view),
    path("async", views.async_view),
    path("cached", views.cached_view),
    path("fails", views.failing_view),
    path("stream", views.sync_stream),
    path("astream", views.async_stream),
    path("broken-stream", views.broken_stream),
    path("file", views.file_view),
    path("slow", views.slow_view),
    path("slow-sync", views.slow_sync_view),
]
