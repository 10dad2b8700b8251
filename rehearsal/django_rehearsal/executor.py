"""Django's own `migrate`, with each migration handed to us."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from django.core.management import call_command
from django.core.management.commands import migrate as command
from django.db.migrations import Migration, operations
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

# Given the migration, what applies it, and what takes it back; returns what the first returned.
Step = Callable[
    [Migration, Callable[[], ProjectState], Callable[[], ProjectState]],
    ProjectState,
]


def migrate(step: Step, afterwards: Callable[[Callable[[], None]], None] | None = None) -> None:
    """Run Django's command, so that signals and a project's own variant of it are as ever.

    `afterwards` is given what sends the signal at the end.
    """

    class Executor(MigrationExecutor):
        def apply_migration(
            self,
            state: ProjectState,
            migration: Migration,
            fake: bool = False,
            fake_initial: bool = False,
        ) -> ProjectState:
            before, take_over = state.clone(), super().apply_migration
            return step(
                migration,
                # A state is changed while it is applied, and what failed may be tried again.
                lambda: take_over(before.clone(), migration, fake, fake_initial),
                lambda: self.unapply_migration(before.clone(), migration),
            )

    own, send = command.MigrationExecutor, command.emit_post_migrate_signal

    def emit(*words: object, **named: object) -> None:
        if afterwards:
            afterwards(lambda: send(*words, **named))
        else:
            send(*words, **named)

    command.MigrationExecutor, command.emit_post_migrate_signal = Executor, emit
    try:
        call_command("migrate", interactive=False, verbosity=0)
    finally:
        command.MigrationExecutor, command.emit_post_migrate_signal = own, send


def steps_of(migration: Migration) -> Iterator[Operation]:
    """Yield what a migration does to the database, operation by operation."""
    for operation in migration.operations:
        if isinstance(operation, operations.SeparateDatabaseAndState):
            yield from operation.database_operations
        else:
            yield operation


def runs_code(migration: Migration) -> bool:
    """Return whether a migration does more than Django's own operations on the schema."""
    return any(is_code(operation) for operation in steps_of(migration))


def is_code(operation: Operation) -> bool:
    """Return whether an operation is none of Django's own on the schema."""
    ours = ("django.db.migrations.operations.", "django.contrib.postgres.operations")
    kinds = (operations.RunPython, operations.RunSQL)
    return isinstance(operation, kinds) or not type(operation).__module__.startswith(ours)
