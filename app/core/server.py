"""What is serving: facts about this process and its database."""

import socket

from django.conf import settings
from django.db import connection

from config.health import unapplied_migrations


def server_name() -> str:
    """Return the kind and the name of this server, such as `container 3f1c2a`."""
    return f"{settings.SERVED_BY} {socket.gethostname()}"


def server_facts() -> dict[str, object]:
    """Return what the page shows about its server; django.db.Error if the database is away."""
    connection.ensure_connection()
    version = connection.connection.info.parameter_status("server_version")
    database = connection.settings_dict
    return {
        "environment": settings.ENVIRONMENT,
        "kind": settings.SERVED_BY,
        "hostname": socket.gethostname(),
        "release": settings.RELEASE,
        "database": database["NAME"],
        "database_address": f"{database['HOST']}:{database['PORT']}",
        "database_version": version.split()[0],
        "unapplied": unapplied_migrations(connection),
    }
