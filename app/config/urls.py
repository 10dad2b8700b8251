"""The addresses of the project; the two probes are answered by config.health."""

from django.conf import settings
from django.conf.urls.static import static
from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("core.urls")),
    # Serves uploads in development only; in production that is the proxy's work.
    *static(settings.MEDIA_URL, document_root=settings.MEDIA_ROOT),
]
