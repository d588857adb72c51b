from django.urls import path

from . import views

urlpatterns = [
    path("release/<ident>", views.release),
    path("async/<ident>", views.async_view),
    path("sync/<ident>", views.sync_view),
    path("async-raises/<ident>", views.async_raises),
    path("sync-raises/<ident>", views.sync_raises),
    path("missing/<ident>", views.missing),
    path("endless/<ident>", views.endless),
    path("breaks/<ident>", views.breaks),
    path("slow-async/<ident>", views.slow_async),
    path("slow-sync/<ident>", views.slow_sync),
    path("callback-fails/<ident>", views.callback_fails),
]
