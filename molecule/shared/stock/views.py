"""What the serving release must still answer while a copy is migrated."""

from django.http import HttpRequest, HttpResponse

from stock.models import Item


def listing(request: HttpRequest) -> HttpResponse:
    """Return some items, all their columns read."""
    return HttpResponse(", ".join(item.name for item in Item.objects.select_related("kind")[:9]))
