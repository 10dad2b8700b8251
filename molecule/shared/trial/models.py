"""A ledger that doesn't forbid what must not happen, so that it can be seen."""

from django.db import models


class Line(models.Model):
    """One acknowledged POST; the key is not unique, lest a doubled one hide."""

    key = models.CharField(max_length=64, db_index=True)
