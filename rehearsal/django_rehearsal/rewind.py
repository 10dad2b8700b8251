"""Migrations taken back on a copy that has them already, so that they can be rehearsed like new ones."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from . import failures
from .history import name_of


class Irreversible(Exception):
    """A migration that can't be taken back; the text says which and why."""


def rewind(connection: BaseDatabaseWrapper, keep: list[str]) -> list[str]:
    """Take back all that the database has applied and `keep` does not name, the last first; return their names.

    Raises Irreversible where one of them can't be.
    """
    now = ""

    def note(action: str, migration: Migration | None = None, _fake: bool = False) -> None:
        nonlocal now
        now = name_of(migration) if action == "unapply_start" and migration else now

    executor = MigrationExecutor(connection, note)
    applied, kept = executor.loader.applied_migrations or {}, set(keep)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    surplus = [
        migration
        for migration, _ in plan
        if (migration.app_label, migration.name) in applied and name_of(migration) not in kept
    ]
    try:
        executor.migrate([], plan=[(migration, True) for migration in reversed(surplus)])
    except Exception as error:
        raise Irreversible(f"{now}: {failures.words(error)}") from error
    return [name_of(migration) for migration in surplus]
