from django.urls import path

from . import views

urlpatterns = [
    path("", views.index),
    path("order", views.order),
    path("stream", views.stream),
    path("fail", views.fail),
    path("callback-fails", views.callback_fails),
    path("audit", views.audit),
]
