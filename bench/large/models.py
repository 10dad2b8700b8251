"""Two large tables, as bench/rehearsal's migrations leave them."""

from django.db import models


class Line(models.Model):
    """A row of the table that is migrated."""

    name = models.TextField()
    note = models.TextField()
    made = models.DateTimeField()
    number = models.IntegerField(db_index=True)
    size = models.IntegerField(db_default=0)


class Word(models.Model):
    """A row of the table that is left alone."""

    name = models.TextField()
    note = models.TextField()
    made = models.DateTimeField()
    number = models.IntegerField()
