"""Tables with rows in them, for migrations to hurt."""

from django.db import models


class Kind(models.Model):
    """What sort of thing an item is."""

    code = models.CharField(max_length=9, unique=True)


class Item(models.Model):
    """A thing in stock."""

    name = models.CharField(max_length=50)
    price = models.IntegerField(default=0)
    note = models.TextField(null=True)
    kind = models.ForeignKey(Kind, models.CASCADE, null=True)
