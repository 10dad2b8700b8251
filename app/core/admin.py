"""The guest book in the admin."""

from django.contrib import admin

from core.models import Entry
from core.server import server_name


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):
    """Lists entries, newest first."""

    list_display = ["text", "author", "served_by", "created_at"]
    list_filter = ["served_by", "created_at"]
    search_fields = ["text", "author"]
    readonly_fields = ["served_by", "created_at"]

    def save_model(self, request, obj, form, change) -> None:
        """Record the server that took a new entry."""
        if not change:
            obj.served_by = server_name()
        super().save_model(request, obj, form, change)
