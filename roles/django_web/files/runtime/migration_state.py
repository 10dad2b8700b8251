"""Say, as one JSON line, what stands between the models, the migration files and the database.

Runs in the application's directory with its environment. With --make (development) it also
writes the migrations that are missing, but only those that cannot lose anything and that Django
would not ask a question about; with --deploy (production) it runs Django's deployment checks.

Printed: written (paths of new files), refused (why nothing was written; empty if nothing was
refused), missing (apps whose models have no migration), unapplied (app.name), problems (what the
deployment checks say). The exit status is 0 whenever the line was printed; otherwise one line on
stderr says why.
"""

import argparse
import io
import json
import os
import re
import sys

import django
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.core.management.commands import makemigrations
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations import AlterField, DeleteModel, RemoveField, exceptions
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.questioner import InteractiveMigrationQuestioner

# Other columns to which a column may be altered without losing a part of any value.
WIDER = {
    "CharField": {"TextField"},
    "SlugField": {"CharField", "TextField"},
    "SmallIntegerField": {"IntegerField", "BigIntegerField"},
    "IntegerField": {"BigIntegerField"},
    "PositiveSmallIntegerField": {"PositiveIntegerField", "PositiveBigIntegerField"},
    "PositiveIntegerField": {"PositiveBigIntegerField"},
    "AutoField": {"BigAutoField"},
    "ForeignKey": {"OneToOneField"},
    "OneToOneField": {"ForeignKey"},
}
SIZES = ("max_length", "max_digits", "decimal_places")
UNREADABLE = (
    exceptions.BadMigrationError,
    exceptions.CircularDependencyError,
    exceptions.InconsistentMigrationHistory,
    exceptions.NodeNotFoundError,
    DatabaseError,
    ImproperlyConfigured,
)


class Refused(Exception):
    """Something only a person may decide."""


class NotingQuestioner(InteractiveMigrationQuestioner):
    """Notes what Django would ask: an unattended answer is a guess about somebody's data."""

    asked = []

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dry_run = False  # which would leave questions out

    def _note(self, question):
        question = re.sub(r"\[y/N\]|Please (select a fix|choose how to proceed):", "", question)
        self.asked.append(" ".join(question.split()))

    def _boolean_input(self, question, default=None):
        self._note(question)
        return False

    def _choice_input(self, question, choices):
        self._note(question)
        return 1

    def _ask_default(self, default=""):
        return None


def narrows(old, new):
    """Return whether a field's new column may hold less of a value than its old one."""
    kinds = old.get_internal_type(), new.get_internal_type()
    if kinds[0] != kinds[1] and kinds[1] not in WIDER.get(kinds[0], ()):
        return True
    if kinds[1] == "TextField":  # its max_length is a matter of forms
        return False
    sizes = ((getattr(old, size, None), getattr(new, size, None)) for size in SIZES)
    return any(after is not None and (before is None or after < before) for before, after in sizes)


def loses(operation, app, models):
    """Return whether an operation may lose data of the models as the migration files have them."""
    if isinstance(operation, AlterField):
        old = models[app, operation.model_name_lower].fields[operation.name]
        return narrows(old, operation.field)
    return isinstance(operation, RemoveField | DeleteModel)


class MakeMigrations(makemigrations.Command):
    """Django's own command; looks at the operations before a file is written."""

    changed = ()

    def write_migration_files(self, changes, *args, **kwargs):
        """Refuse what asks a question or loses something; then do as Django does."""
        self.changed = sorted(changes)
        models = MigrationLoader(None, ignore_no_migrations=True).project_state().models
        losses = [
            f"{app}: {operation.describe()}"
            for app, migrations in changes.items()
            for migration in migrations
            for operation in migration.operations
            if loses(operation, app, models)
        ]
        if NotingQuestioner.asked or losses:
            raise Refused("; ".join(NotingQuestioner.asked + losses))
        super().write_migration_files(changes, *args, **kwargs)


def make(dry_run):
    """Return (paths written, apps that lack a migration, why nothing was written)."""
    makemigrations.InteractiveMigrationQuestioner = NotingQuestioner
    command = MakeMigrations(stdout=io.StringIO(), stderr=io.StringIO(), no_color=True)
    written = io.StringIO()
    # What the project itself prints must not reach our one line.
    screen, sys.stdout = sys.stdout, io.StringIO()
    try:
        call_command(command, interactive=True, scriptable=True, dry_run=dry_run, stdout=written)
    except (Refused, CommandError) as refusal:
        return [], list(command.changed), " ".join(str(refusal).split())
    finally:
        sys.stdout = screen
    paths = written.getvalue().split("\n") if not dry_run else []
    return [path for path in paths if path], list(command.changed), ""


def unapplied():
    """Return the migrations on disk that the database lacks, in the order of their application."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    executor.loader.check_consistent_history(connections[DEFAULT_DB_ALIAS])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


def deployment_problems():
    """Return what `check --deploy --fail-level WARNING` complains about, one line each."""
    try:
        call_command(
            "check", deploy=True, fail_level="WARNING", stdout=io.StringIO(), stderr=io.StringIO()
        )
    except SystemCheckError as error:
        return [line.strip() for line in str(error).splitlines() if re.search(r": \(\w", line)]
    return []


def main():
    """Parse the arguments and print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--make", action="store_true", help="write migrations that lose nothing")
    parser.add_argument("--deploy", action="store_true", help="run the deployment checks")
    asked = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    try:
        django.setup()
        connections[DEFAULT_DB_ALIAS].ensure_connection()
        problems = deployment_problems() if asked.deploy else []
        written, missing, refused = make(dry_run=not asked.make)
        state = {"written": written, "missing": missing, "refused": refused, "problems": problems}
        state["unapplied"] = unapplied()
    except UNREADABLE as error:
        sys.exit(f"migration_state.py: {' '.join(str(error).split())}")
    print(json.dumps(state))


if __name__ == "__main__":
    main()
