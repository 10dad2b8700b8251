"""The way into a project: that of its manage.py, so that what works with `manage.py` works here.

It needs nothing else of this package: the application's image has it beside its own programs.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import socket
import sys
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import ManagementUtility
from django.db import DEFAULT_DB_ALIAS, connections

# The project's directory; its manage.py may go elsewhere.
HERE = Path.cwd().resolve()
DRIVER = (
    "Django's driver for PostgreSQL is not installed: add psycopg[binary] to the project's requirements.in, "
    "make its requirements.txt anew, and run again."
)


class _Entered(BaseException):
    """manage.py has come to its command; no `except Exception` of the project is to end this."""


def enter() -> None:
    """Set Django up as the project's manage.py does, and run no command.

    Raises ImproperlyConfigured where manage.py ends before that, where there is no driver, or where the settings'
    database is not the one that the environment names; OSError without a manage.py; and what the project raises.
    """
    script = (HERE / "manage.py").resolve()
    program = os.path.dirname(getattr(sys.modules["__main__"], "__file__", None) or "")
    sys.path[:] = [str(script.parent), *(place for place in sys.path if place != program)]
    fetch, words = ManagementUtility.fetch_command, sys.argv
    ManagementUtility.fetch_command = _stop
    # A command that changes nothing, should manage.py run it by itself.
    sys.argv = ["manage.py", "check"]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            _run(script)
    except (ImportError, ImproperlyConfigured) as error:
        if lacks_driver(error):
            raise ImproperlyConfigured(DRIVER) from error
        raise
    finally:
        ManagementUtility.fetch_command, sys.argv = fetch, words
    _require_database()


def lacks_driver(error: Exception) -> bool:
    """Return whether it is because of a driver that is not there."""
    if isinstance(error, ImportError):
        return (error.name or "").partition(".")[0] in ("psycopg", "psycopg2")
    return "Error loading psycopg" in str(error)


def own_apps() -> list[str]:
    """Return the labels of the applications whose migrations are this project's to write."""
    elsewhere = settings.MIGRATION_MODULES
    return [
        config.label
        for config in apps.get_app_configs()
        if elsewhere.get(config.label, "")
        or (config.label not in elsewhere and config.models_module and _is_own(Path(config.path)))
    ]


def _is_own(path: Path) -> bool:
    """Return whether a directory is the project's: below it, and no installed package's."""
    path = path.resolve()
    return path.is_relative_to(HERE) and "site-packages" not in path.relative_to(HERE).parts


def _stop(*_: object) -> None:
    raise _Entered


def _run(script: Path) -> None:
    """Run manage.py until Django is set up."""
    try:
        runpy.run_path(str(script), run_name="__main__")
    except _Entered:
        pass
    except SystemExit as end:
        if not apps.ready:
            said = end.code if isinstance(end.code, str) else f"manage.py ends with {end.code}"
            raise ImproperlyConfigured(f"{said} (before any command of Django)") from end
    if not apps.ready:
        django.setup()


def _same_host(one: str, other: str) -> bool:
    """Return whether two names are one address, such as localhost and 127.0.0.1."""
    try:
        return socket.gethostbyname(one) == socket.gethostbyname(other)
    except OSError:
        return False


def _require_database() -> None:
    """Raise ImproperlyConfigured where the settings' database is not the one that the environment names."""
    try:
        vendor = connections[DEFAULT_DB_ALIAS].vendor
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(DRIVER if lacks_driver(error) else str(error)) from error
    there = connections.settings[DEFAULT_DB_ALIAS]
    wanted = {name: os.environ.get(f"DATABASE_{name}", "") for name in ("HOST", "PORT", "NAME")}
    has = {name: str(there[name] or ("5432" if name == "PORT" else "")) for name in wanted}
    wrong = [name for name in wanted if wanted[name] not in ("", has[name])]
    if "HOST" in wrong and _same_host(has["HOST"], wanted["HOST"]):
        wrong.remove("HOST")
    if vendor != "postgresql":
        has["ENGINE"], wrong = there["ENGINE"], ["ENGINE"]
    if wrong:
        raise ImproperlyConfigured(
            f"the settings' DATABASES['default'] has {', '.join(f'{name} {has[name]!r}' for name in wrong)}, which is not this stack's PostgreSQL: let "
            "ENGINE be django.db.backends.postgresql, read HOST, PORT, NAME and USER from the environment variables "
            "DATABASE_HOST, DATABASE_PORT, DATABASE_NAME and DATABASE_USER, and the password from the file that "
            "DATABASE_PASSWORD_FILE names."
        )
