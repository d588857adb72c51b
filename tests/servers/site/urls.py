from django.urls import path

from . import probes, views

urlpatterns = [
    path("async/<ident>", views.async_view),
    path("sync/<ident>", views.sync_view),
    path("async-raises/<ident>", views.async_raises),
    path("sync-raises/<ident>", views.sync_raises),
    path("missing/<ident>", views.missing),
    path("big/<ident>", views.big),
    path("endless/<ident>", views.endless),
    path("breaks/<ident>", views.breaks),
    path("slow-async/<ident>", views.slow_async),
    path("slow-sync/<ident>", views.slow_sync),
    path("callback-fails/<ident>", views.callback_fails),
    path("plain-async/<ident>", probes.plain_async),
    path("plain-sync/<ident>", probes.plain_sync),
    path("statistics/<ident>", probes.statistics),
    path("threads/<ident>", probes.threads),
    path("mixed-async/<ident>", probes.mixed_async),
    path("mixed-sync/<ident>", probes.mixed_sync),
    path("freezes/<ident>", probes.freezes),
]
