from django.urls import path

from . import views

urlpatterns = [
    path("plain/<ident>", views.plain),
    path("aplain/<ident>", views.aplain),
    path("json/<ident>", views.json),
    path("function/<ident>", views.function),
    path("file/<ident>", views.file),
    path("stream/<ident>", views.stream),
    path("astream/<ident>", views.astream),
    path("raises/<ident>", views.raises),
    path("slow/<ident>", views.slow),
    path("rest/<ident>", views.Rest.as_view()),
]
