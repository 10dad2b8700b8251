"""The stock's only page."""

from django.urls import path

from stock import views

urlpatterns = [path("", views.listing)]
