"""The application's registration."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """The sample application: a guest book that shows what served it."""

    name = "core"
    verbose_name = "Guest book"
