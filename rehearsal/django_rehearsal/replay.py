"""The schema that the files make of what the database has recorded, made in an empty database."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from . import catalog, failures
from .history import name_of


class Unplayable(Exception):
    """A migration that can't be applied to an empty database: `migration` names it, the text says why."""

    def __init__(self, migration: str, why: str) -> None:
        super().__init__(why)
        self.migration = migration


def replay(connection: BaseDatabaseWrapper, recorded: list[str]) -> catalog.Catalog:
    """Apply the recorded migrations to the empty database of a connection, and return its schema.

    What was recorded and has no file is left out. Raises Unplayable, mostly where a migration needs rows to
    work on.
    """
    now = ""

    def note(action: str, migration: Migration | None = None, _fake: bool = False) -> None:
        nonlocal now
        now = name_of(migration) if action == "apply_start" and migration else now
        if action == "apply_success":
            # What it has set in its session is not the next one's.
            connection.close()

    executor = MigrationExecutor(connection, note)
    wanted = set(recorded)
    plan = [
        (migration, backwards)
        for migration, backwards in executor.migration_plan(
            executor.loader.graph.leaf_nodes(), clean_start=True
        )
        if name_of(migration) in wanted
        or (migration.replaces and {name_of(key) for key in migration.replaces} <= wanted)
    ]
    try:
        executor.migrate([], plan=plan)
    except Exception as error:
        raise Unplayable(now, failures.words(error)) from error
    return catalog.read(connection)
