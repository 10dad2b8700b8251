"""What the project's files and the database's record say of each other."""

from __future__ import annotations

import hashlib
import inspect
import sys
from dataclasses import dataclass, field
from pathlib import Path

from django.apps import apps
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.exceptions import (
    BadMigrationError,
    CircularDependencyError,
    InconsistentMigrationHistory,
    NodeNotFoundError,
)
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from . import fit


@dataclass
class History:
    """Migrations by name ("app.0001_initial"), each list in the order of application.

    `ghosts` are recorded in the database and in no file. `lost` maps a squashed migration that replaces applied
    ones to those it replaces that are neither applied nor in a file: nothing applies them. `strangers` are applications that
    have records and are not installed. `conflicts` has the last migrations of each application that has several.
    `problem` says why the files could not be read or ordered; then at most `recorded` is filled. `files` has the SHA-256 of
    each recorded migration's file. `tables` are those of models whose applications have migrations.
    """

    recorded: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    ghosts: list[str] = field(default_factory=list)
    lost: dict[str, list[str]] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)
    conflicts: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""
    files: dict[str, str] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)


def name_of(migration: Migration | tuple[str, str]) -> str:
    """Return a migration as people and Django's own commands name it: `app.name`."""
    if isinstance(migration, Migration):
        return f"{migration.app_label}.{migration.name}"
    return ".".join(migration)


def read(connection: BaseDatabaseWrapper) -> History:
    """Compare the migration files with the database's record."""
    found = History()
    try:
        executor = MigrationExecutor(connection)
        loader = executor.loader
        found.recorded = [name_of(key) for key in loader.applied_migrations or {}]
        loader.check_consistent_history(connection)
    except (
        BadMigrationError,
        CircularDependencyError,
        InconsistentMigrationHistory,
        NodeNotFoundError,
    ) as error:
        found.problem = " ".join(str(error).split())
        return found
    found.ghosts, found.strangers = _without_files(loader)
    found.lost = _lost(loader)
    found.tables = fit.tables(connection, loader.migrated_apps)
    found.conflicts = {
        app: sorted(name_of((app, name)) for name in names)
        for app, names in sorted(loader.detect_conflicts().items())
    }
    applied = loader.applied_migrations or {}
    found.files = {
        name_of(key): fingerprint
        for key, migration in sorted(loader.disk_migrations.items())
        if key in applied and (fingerprint := _fingerprint(migration))
    }
    if not found.conflicts:
        plan = executor.migration_plan(loader.graph.leaf_nodes())
        found.pending = [name_of(migration) for migration, _backwards in plan]
    return found


def _without_files(loader: MigrationLoader) -> tuple[list[str], list[str]]:
    """Return the recorded migrations that no file makes, and the applications that are not installed."""
    known = set(loader.disk_migrations)
    # A squashed migration's file stands for those that it replaces, whose files may be gone.
    known |= {key for one in loader.disk_migrations.values() for key in one.replaces}
    missing = [key for key in loader.applied_migrations or {} if key not in known]
    installed = {config.label for config in apps.get_app_configs()}
    ghosts = [name_of(key) for key in missing if key[0] in installed]
    return ghosts, sorted({app for app, _ in missing if app not in installed})


def _lost(loader: MigrationLoader) -> dict[str, list[str]]:
    """Return the migrations that nothing applies any more, by the squashed one that is to replace them."""
    applied, found = loader.applied_migrations or {}, {}
    for key, one in sorted(loader.disk_migrations.items()):
        # Django leaves it out of what is to be applied as soon as a part of it is.
        if key not in applied and any(replaced in applied for replaced in one.replaces):
            known = applied.keys() | loader.disk_migrations.keys()
            if lost := [name_of(replaced) for replaced in one.replaces if replaced not in known]:
                found[name_of(key)] = lost
    return found


def _fingerprint(migration: Migration) -> str:
    """Return the SHA-256 of a migration's file; empty where it has none to read."""
    path = inspect.getsourcefile(sys.modules[type(migration).__module__])
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else ""
    except OSError:
        return ""
