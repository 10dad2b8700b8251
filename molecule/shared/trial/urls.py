"""The addresses of the trial, below /trial/."""

from django.urls import path

from trial import views

urlpatterns = [
    path("page", views.page),
    path("ledger", views.ledger),
    path("slow", views.slow),
    path("stream", views.stream),
    path("upload", views.upload),
    path("form", views.form),
    path("request", views.request_seen),
    path("status", views.status),
]
