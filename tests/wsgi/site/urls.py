from django.urls import path

from . import views

urlpatterns = [
    path("view/<ident>", views.view),
    path("async/<ident>", views.view),  # as tests.servers.endings asks for it
    path("big/<ident>", views.big),
    path("breaks/<ident>", views.breaks),
    path("waits/<ident>", views.waits),
    path("raises/<ident>", views.raises),
    path("file/<ident>", views.file),
    path("fails/<ident>", views.fails),
    path("exits/<ident>", views.exits),
    path("keeps/<ident>", views.keeps),
    path("async-orm/<ident>", views.async_orm),
]
