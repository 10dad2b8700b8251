"""Say, as one JSON line, what stands between the models, the migration files and the database.

Runs in the application's directory with its environment. With --make (development) it also
writes the migrations that are missing, but only those that cannot lose anything and that Django
would not ask a question about; with --deploy (production) it runs Django's deployment checks.
Only applications below that directory count: what other packages lack is not the project's to
write.

Printed: written (paths of new files), refused (why nothing was written; empty if nothing was
refused), missing (apps whose models have no migration), unapplied (app.name; empty while there
are several last migrations, whose order nobody knows), advice (app.model.field of new columns
whose default only the new code knows), ghosts (app.name of what the database has applied and no
file makes), problems (what the deployment checks say). The exit status is 0 whenever the line was
printed; otherwise one line on stderr says why.
"""

import argparse
import io
import json
import os
import re
import sys
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.core.management.commands import makemigrations
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations import exceptions, operations
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.questioner import InteractiveMigrationQuestioner
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter

# Operations that take nothing from any row. What is not listed is a person's decision.
HARMLESS = (
    operations.AddConstraint,
    operations.AddField,
    operations.AddIndex,
    operations.AlterConstraint,
    operations.AlterModelManagers,
    operations.AlterModelOptions,
    operations.AlterModelTable,
    operations.AlterModelTableComment,
    operations.AlterUniqueTogether,
    operations.CreateModel,
    operations.RemoveConstraint,
    operations.RemoveIndex,
    operations.RenameIndex,
)
# Other kinds of column to which a field may be altered without losing a part of any value.
WIDER = {
    "CharField": {"TextField", "EmailField", "URLField", "SlugField"},
    "EmailField": {"CharField", "TextField"},
    "URLField": {"CharField", "TextField"},
    "SlugField": {"CharField", "TextField"},
    "SmallIntegerField": {"IntegerField", "BigIntegerField"},
    "IntegerField": {"BigIntegerField"},
    "PositiveSmallIntegerField": {"PositiveIntegerField", "PositiveBigIntegerField"},
    "PositiveIntegerField": {"PositiveBigIntegerField"},
    "AutoField": {"BigAutoField"},
    "ForeignKey": {"OneToOneField"},
    "OneToOneField": {"ForeignKey"},
}
# Arguments of a field that do not touch what its column already holds. Others, and those of
# fields that Django does not know, are a person's decision.
FREE = {
    "auto_created",
    "auto_now",
    "auto_now_add",
    "blank",
    "choices",
    "db_comment",
    "db_constraint",
    "db_default",
    "db_index",
    "default",
    "editable",
    "error_messages",
    "help_text",
    "limit_choices_to",
    "max_length",
    "on_delete",
    "related_name",
    "related_query_name",
    "serialize",
    "storage",
    "unique",
    "unique_for_date",
    "unique_for_month",
    "unique_for_year",
    "upload_to",
    "validators",
    "verbose_name",
}
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


def grows(before, after):
    """Return whether a size (None: no limit) is at least what it was."""
    return after is None or (before is not None and after >= before)


def keeps(old, new):
    """Return whether a field's new column keeps every value of its old one, as it was."""
    deconstruct = MigrationAutodetector(ProjectState(), ProjectState()).deep_deconstruct
    (old_path, *_), (new_path, *_) = before, after = deconstruct(old), deconstruct(new)
    differ = {name for name in before[2] | after[2] if before[2].get(name) != after[2].get(name)}
    if old_path != new_path:
        module, _, kind = old_path.rpartition(".")
        others = {f"{module}.{other}" for other in WIDER.get(kind, ())}
        if module != "django.db.models" or new_path not in others:
            return False
    if "null" in differ and not new.null:  # empty values would be filled with the default
        return False
    if {"max_digits", "decimal_places"} & differ:
        digits = [(field.max_digits, field.decimal_places) for field in (old, new)]
        if None in digits[0] + digits[1]:
            return False
        (total, places), (new_total, new_places) = digits
        if new_places < places or new_total - new_places < total - places:
            return False
    text = new.get_internal_type() == "TextField"  # whose max_length is a matter of forms
    if not text and not grows(getattr(old, "max_length", None), getattr(new, "max_length", None)):
        return False
    return differ <= FREE | {"null", "max_digits", "decimal_places"}


def harmless(operation, app, state):
    """Return whether an operation on the models, as the files so far have them, loses nothing."""
    if isinstance(operation, operations.AlterField):
        model = state.models.get((app, operation.model_name_lower))
        old = model and model.fields.get(operation.name)
        return old is not None and keeps(old, operation.field)
    if isinstance(operation, operations.AlterOrderWithRespectTo):
        return operation.order_with_respect_to is not None
    return isinstance(operation, HARMLESS)


def own_apps():
    """Return the labels of the applications whose migrations are this project's to write."""
    here, elsewhere = Path.cwd().resolve(), settings.MIGRATION_MODULES
    return [
        config.label
        for config in apps.get_app_configs()
        if elsewhere.get(config.label, "")
        or (
            config.label not in elsewhere
            and config.models_module
            and Path(config.path).resolve().is_relative_to(here)
        )
    ]


def reasons(changes):
    """Return why a person must decide on these migrations, {app: [migration, ...]}."""
    state = MigrationLoader(None, ignore_no_migrations=True).project_state()
    recorded = MigrationRecorder(connections[DEFAULT_DB_ALIAS]).applied_migrations()
    own, found = own_apps(), []
    for app, migrations in changes.items():
        if app not in own:
            found.append(f"{app} needs a migration and is not a part of this project")
        for migration in migrations:
            if (app, migration.name) in recorded:
                found.append(
                    f"{app}.{migration.name} would be the name, but the database has applied one "
                    "of that name whose file is gone: choose another (makemigrations --name)"
                )
            for operation in migration.operations:
                if not harmless(operation, app, state):
                    found.append(f"{app}: {operation.describe()}")
                operation.state_forwards(app, state)
            try:
                MigrationWriter(migration).as_string()
            except ValueError as error:
                found.append(f"{app}.{migration.name} cannot be written: {error}")
    return found


def unknown_defaults(changes):
    """Return the new columns of tables with rows that code without them can't insert into."""
    made = {
        (app, operation.name_lower)
        for app, migrations in changes.items()
        for migration in migrations
        for operation in migration.operations
        if isinstance(operation, operations.CreateModel)
    }
    return [
        f"{app}.{operation.model_name}.{operation.name}"
        for app, migrations in changes.items()
        for migration in migrations
        for operation in migration.operations
        if isinstance(operation, operations.AddField)
        and (app, operation.model_name_lower) not in made
        and not (operation.field.null or operation.field.many_to_many)
        and not operation.field.has_db_default()
        and not getattr(operation.field, "generated", False)
    ]


class MakeMigrations(makemigrations.Command):
    """Django's own command; looks at the operations before a file is written."""

    changed, advice = (), ()

    def write_migration_files(self, changes, *args, **kwargs):
        """Refuse what asks a question or loses something; then do as Django does."""
        self.changed = sorted(changes)
        if why := NotingQuestioner.asked + reasons(changes):
            raise Refused("; ".join(why))
        try:
            super().write_migration_files(changes, *args, **kwargs)
        except OSError as error:
            raise Refused(f"the migration cannot be written: {error}") from error
        self.advice = unknown_defaults(changes)


def hand_over(paths):
    """Give files that root wrote to the owner of the project."""
    owner = Path.cwd().stat()
    if os.geteuid() == 0:
        for path in paths:
            place = Path(path).parent
            for made in (Path(path), place, place / "__init__.py"):
                if made.exists():
                    os.chown(made, owner.st_uid, owner.st_gid)


def make(dry_run):
    """Return (paths written, apps that lack a migration, why nothing was written, advice)."""
    labels = own_apps()
    if not labels:
        return [], [], "", []
    makemigrations.InteractiveMigrationQuestioner = NotingQuestioner
    command = MakeMigrations(stdout=io.StringIO(), stderr=io.StringIO(), no_color=True)
    written = io.StringIO()
    options = {"interactive": True, "scriptable": True, "dry_run": dry_run, "stdout": written}
    # What the project itself prints must not reach our one line.
    screen, sys.stdout = sys.stdout, io.StringIO()
    try:
        call_command(command, *labels, **options)
    except (Refused, CommandError) as refusal:
        return [], list(command.changed), " ".join(str(refusal).split()), []
    finally:
        sys.stdout = screen
    paths = [path for path in written.getvalue().split("\n") if path and not dry_run]
    hand_over(paths)
    return paths, list(command.changed), "", list(command.advice)


def against_database():
    """Return the migrations that the database lacks, in their order, and those that only it has."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    loader = executor.loader
    loader.check_consistent_history(connections[DEFAULT_DB_ALIAS])
    # A squashed migration stands for those that it replaces, and whose files may be gone.
    known = set(loader.disk_migrations)
    known |= {key for one in loader.disk_migrations.values() for key in one.replaces}
    installed = {config.label for config in apps.get_app_configs()}
    ghosts = [
        f"{app}.{name}"
        for app, name in loader.applied_migrations
        if (app, name) not in known and app in installed
    ]
    if loader.detect_conflicts():
        return [], ghosts
    plan = executor.migration_plan(loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan], ghosts


def deployment_problems():
    """Return what `check --deploy --fail-level WARNING` complains about, one line each."""
    try:
        call_command(
            "check", deploy=True, fail_level="WARNING", stdout=io.StringIO(), stderr=io.StringIO()
        )
    except SystemCheckError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        found = [line for line in lines if re.search(r": \(\w|^\?: ", line)]
        return found or [" ".join(str(error).split())]
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
        written, missing, refused, advice = make(dry_run=not asked.make)
        state = {"written": written, "missing": missing, "refused": refused, "problems": problems}
        state["advice"] = advice
        state["unapplied"], state["ghosts"] = against_database()
    except UNREADABLE as error:
        sys.exit(f"migration_state.py: {' '.join(str(error).split())}")
    print(json.dumps(state))


if __name__ == "__main__":
    main()
