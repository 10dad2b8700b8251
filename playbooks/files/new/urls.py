"""The addresses of the project; the two probes are answered by config.health."""

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path


def home(request: HttpRequest) -> HttpResponse:
    """Return a first page; put your own here."""
    return HttpResponse("<h1>It works.</h1><p>This page is made in config/urls.py.</p>")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("", home),
    # Serves uploads in development only; in production that is the proxy's work.
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]
