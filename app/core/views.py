"""The guest book's page."""

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from core.forms import EntryForm
from core.models import Entry
from core.server import server_facts, server_name

ENTRIES_PER_PAGE = 10


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def home(request: HttpRequest) -> HttpResponse:
    """List the entries and add one; the redirect's fragment points at the new one."""
    form = EntryForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        form.instance.served_by = server_name()
        entry = form.save()
        return redirect(f"{reverse('home')}#entry-{entry.pk}")
    page = Paginator(Entry.objects.all(), ENTRIES_PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "core/home.html", {"form": form, "page": page, "server": server_facts()})


@require_safe
def robots(request: HttpRequest) -> HttpResponse:
    """Keep crawlers out of the admin."""
    return HttpResponse("User-agent: *\nDisallow: /admin/\n", content_type="text/plain")
