"""Two probes, answered before any other middleware can refuse or redirect them.

/healthz/live says that the process answers. /healthz/ready says that it can serve: the database
answers within seconds and no migration is missing there.
"""

import logging
from collections.abc import Callable
from functools import cache

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse

TIMEOUT_SECONDS = 2

logger = logging.getLogger(__name__)


class HealthMiddleware:
    """Answers the two probes and hands every other request on."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Return the probe's answer (JSON, 200 or 503) or the application's."""
        probe = {"/healthz/live": live, "/healthz/ready": ready}.get(request.path_info)
        if probe is None or request.method not in ("GET", "HEAD"):
            return self.get_response(request)
        response = probe()
        response["Cache-Control"] = "no-store"
        return response


def live() -> JsonResponse:
    """Return 200; nothing but the process is touched."""
    return JsonResponse({"status": "ok"})


def ready() -> JsonResponse:
    """Return 200 if the database answers and has every migration, else 503."""
    connection = own_connection()
    try:
        missing = unapplied_migrations(connection)
    except Error as error:
        logger.warning("Not ready, the database does not answer: %s", " ".join(str(error).split()))
        state = {"status": "unavailable", "database": "unreachable", "migrations": "unknown"}
    else:
        state = {"status": "ok", "database": "ok", "migrations": "ok"}
        if missing:
            logger.warning("Not ready, unapplied migrations: %s", ", ".join(missing))
            state |= {"status": "unavailable", "migrations": f"{len(missing)} unapplied"}
    finally:
        connection.close()
    return JsonResponse(state, status=200 if state["status"] == "ok" else 503)


def own_connection() -> BaseDatabaseWrapper:
    """Return a connection, not yet opened, that is set up as the application's and shared with nobody.

    A kept connection can't tell a hung server from a slow one, and a pool would keep what the probe
    sets. Its one transaction is never committed.
    """
    connection = connections[DEFAULT_DB_ALIAS].copy()
    connection.settings_dict["AUTOCOMMIT"] = False
    options = connection.settings_dict["OPTIONS"]
    options.pop("pool", None)
    options["connect_timeout"] = TIMEOUT_SECONDS
    return connection


def unapplied_migrations(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the migrations (`app.name`, sorted) on disk that the database lacks.

    Each statement ends after TIMEOUT_SECONDS, in this transaction alone. Raises django.db.Error if
    the database does not answer.
    """
    recorder, applied = MigrationRecorder(connection), set()
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL statement_timeout = '{TIMEOUT_SECONDS}s'")
        if recorder.has_table():
            # The recorder itself would ask over the application's connection.
            cursor.execute(f"SELECT app, name FROM {recorder.Migration._meta.db_table}")
            applied = set(cursor.fetchall())
    # Files change under the development server, which doesn't restart for a new migration.
    on_disk = _load_migrations() if settings.DEBUG else _cached_migrations()
    return sorted(
        f"{app}.{name}"
        for (app, name), migration in on_disk.items()
        if (app, name) not in applied
        # A squashed migration counts as applied when all that it replaces is.
        and not (migration.replaces and applied.issuperset(migration.replaces))
    )


def _load_migrations() -> dict[tuple[str, str], Migration]:
    return MigrationLoader(None).disk_migrations


_cached_migrations = cache(_load_migrations)
