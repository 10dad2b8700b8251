"""What the guest book stores."""

from django.db import models
from django.db.models.functions import Now


class Entry(models.Model):
    """One entry, with the server that took it."""

    text = models.CharField(max_length=500)
    author = models.CharField("name", max_length=80, blank=True)
    served_by = models.CharField(max_length=100, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        """Newest first; the database itself refuses a blank text."""

        ordering = ["-created_at", "-id"]
        verbose_name_plural = "entries"
        indexes = [models.Index(fields=["-created_at", "-id"], name="core_entry_newest")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(text__regex=r"\S"),
                name="core_entry_text_not_blank",
                violation_error_message="Write something: the text is blank.",
            )
        ]

    def __str__(self) -> str:
        return self.text[:60]

    @property
    def server_kind(self) -> str:
        """Return `container` or `host`, the first word of served_by."""
        return self.served_by.partition(" ")[0]
