"""Say, as one JSON line, what stands between the models, the migration files and the database.

Runs in the application's directory with its environment. With --make (development) it also
writes the migrations that are missing, but only those that cannot lose anything and that Django
would not ask a question about; with --deploy (production) it runs Django's deployment checks.

Printed: written (paths of new files), refused (why nothing was written; empty if nothing was
refused), missing (apps whose models have no migration), unapplied (app.name), problems (what the
deployment checks say). The exit status is 0 whenever the line was printed.
"""

import argparse
import io
import json
import os
import re
import sys

import django
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.core.management.commands import makemigrations
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations import DeleteModel, RemoveField
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.questioner import InteractiveMigrationQuestioner


class Refused(Exception):
    """Something only a person may decide."""


class RefusingQuestioner(InteractiveMigrationQuestioner):
    """Refuses wherever Django would ask: an unattended answer is a guess about somebody's data."""

    def _refuse(self, question):
        raise Refused(question)

    def _boolean_input(self, question, default=None):
        self._refuse(question)

    def _choice_input(self, question, choices):
        self._refuse(question)

    def _ask_default(self, default=""):
        self._refuse("A default is needed.")


class MakeMigrations(makemigrations.Command):
    """Django's own command; looks at the operations before a file is written."""

    def write_migration_files(self, changes, *args, **kwargs):
        """Refuse operations that remove something; then do as Django does."""
        losses = [
            f"{app}: {operation.describe()}"
            for app, migrations in changes.items()
            for migration in migrations
            for operation in migration.operations
            if isinstance(operation, (RemoveField, DeleteModel))
        ]
        if losses:
            raise Refused("; ".join(losses))
        self.changed = sorted(changes)
        super().write_migration_files(changes, *args, **kwargs)


def make(dry_run):
    """Return (paths written, apps that lack a migration, why nothing was written)."""
    makemigrations.InteractiveMigrationQuestioner = RefusingQuestioner
    command = MakeMigrations(stdout=io.StringIO(), stderr=io.StringIO(), no_color=True)
    command.changed = []
    written = io.StringIO()
    # Django asks on standard output and reads standard input; neither may reach our one line.
    screen, sys.stdout = sys.stdout, io.StringIO()
    try:
        call_command(command, interactive=True, scriptable=True, dry_run=dry_run, stdout=written)
    except Refused as refusal:
        return [], command.changed, " ".join(str(refusal).split())
    except CommandError as error:
        return [], command.changed, " ".join(str(error).split())
    finally:
        sys.stdout = screen
    paths = written.getvalue().split("\n") if not dry_run else []
    return [path for path in paths if path], command.changed, ""


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
    django.setup()
    problems = deployment_problems() if asked.deploy else []
    written, missing, refused = make(dry_run=not asked.make)
    state = {"written": written, "missing": missing, "refused": refused, "problems": problems}
    print(json.dumps(state | {"unapplied": unapplied()}))


if __name__ == "__main__":
    main()
