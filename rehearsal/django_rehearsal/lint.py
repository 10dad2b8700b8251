"""What can be said of a migration without any rows: by Django itself, by django-migration-linter, and by squawk.

The two linters read the SQL that `sqlmigrate` prints, for which the project's database must answer. They are no
part of a release, so this module alone needs them.
"""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, RunPython
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from django_migration_linter import MigrationLinter
from django_migration_linter.sql_analyser import analyse_sql_statements

from .entry import own_apps
from .history import name_of
from .policy import Policy

# What is a matter of taste, is Django's own choice of a type, or comes before a column may go; and the limits, which a
# deploy sets itself.
_EXCLUDED = (
    "ban-drop-not-null",
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-identity",
    "prefer-robust-stmts",
    "prefer-text-field",
    "prefer-timestamp-tz",
    "require-lock-timeout",
    "require-statement-timeout",
)
_KIND = "lint"
REMEDY = (
    'Mend what stops, or allow it in migrations.toml: an override of the migration with findings = ["lint"] and the reason '
    "(docs/migrations.md)."
)


@dataclass(frozen=True)
class Remark:
    """What one tool says of one migration (empty: of the project); `level` is `stop` or `warn`, `reason` why it may."""

    migration: str
    tool: str
    text: str
    level: str
    reason: str = ""

    @property
    def stops(self) -> bool:
        """Return whether it is to end the build."""
        return self.level == "stop" and not self.reason

    def __str__(self) -> str:
        word = "stop" if self.stops else "note"
        where = f"{self.migration}: " if self.migration else ""
        reason = f" (allowed: {self.reason})" if self.reason else ""
        return f"{word}  {where}{self.text} [{self.tool}]{reason}"


def lint(
    connection: BaseDatabaseWrapper, files: list[Path], policy: Policy, squawk: str
) -> list[Remark]:
    """Return what there is to say of the project's models, and of the migrations in these files.

    `squawk` is its program's path. Raises what Django raises where migrations can't be loaded, and OSError where
    there is no such program.
    """
    own = own_apps()
    found = [Remark("", "makemigrations --check", text, "stop") for text in _missing(own)]
    found += [Remark("", "makemigrations --check", text, "warn") for text in _of_others(own)]
    for migration in _in_files(connection, {path.resolve() for path in files}):
        try:
            sql = _sql(migration)
        except (CommandError, ProgrammingError, ValueError) as error:
            text = f"its SQL can't be made without a database that has what is before it: {error}"
            found.append(Remark(name_of(migration), "sqlmigrate", text, "warn"))
            continue
        found += _linted(connection, migration, sql)
        found += _squawked(connection, migration, sql, squawk)
    # Both what an operation is and what SQL it makes may be objected to in the same words.
    return [_ruled(one, policy) for one in dict.fromkeys(found)]


def _ruled(one: Remark, policy: Policy) -> Remark:
    """Return a remark as the project has it: one may be allowed like any other finding."""
    if not one.migration or one.level != "stop":
        return one
    reasons = policy.reasons(one.migration, _KIND)
    return Remark(one.migration, one.tool, one.text, policy.findings[_KIND], reasons)


def _missing(own: list[str]) -> Iterator[str]:
    """Yield what the models of the project's own applications have and no migration says."""
    if not own:
        return
    said = io.StringIO()
    try:
        call_command("makemigrations", *own, check_changes=True, interactive=False, stdout=said)
    except (SystemExit, CommandError) as end:
        told = str(end) if isinstance(end, CommandError) else said.getvalue()
        yield "the models have changed and no migration says how: " + " ".join(told.split())


def _of_others(own: list[str]) -> Iterator[str]:
    """Yield which applications of other packages lack a migration."""
    loader = MigrationLoader(None)
    models = ProjectState.from_apps(apps)
    changes = MigrationAutodetector(loader.project_state(), models).changes(graph=loader.graph)
    for app in sorted(changes.keys() - set(own)):
        does = "; ".join(
            operation.describe() for migration in changes[app] for operation in migration.operations
        )
        yield (
            f"{app} is another package's, and its models lack a migration ({does}), which is that package's to write: "
            "it does no harm, and nothing is written for it. Where it is the type of ids, an AppConfig of your own for "
            "it with default_auto_field as its migrations have it, named in INSTALLED_APPS, ends this"
        )


def _in_files(connection: BaseDatabaseWrapper, files: set[Path]) -> list[Migration]:
    """Return the migrations that these files make, in the order of application."""
    loader = MigrationLoader(connection)
    order = [key for leaf in loader.graph.leaf_nodes() for key in loader.graph.forwards_plan(leaf)]
    return [
        loader.disk_migrations[key]
        for key in dict.fromkeys(order)
        if key in loader.disk_migrations
        and Path(inspect.getfile(sys.modules[loader.disk_migrations[key].__module__])).resolve()
        in files
    ]


def _sql(migration: Migration) -> list[str]:
    """Return the statements that a migration would send, without those that begin and end a transaction."""
    said = io.StringIO()
    call_command("sqlmigrate", migration.app_label, migration.name, stdout=said, no_color=True)
    return [line for line in said.getvalue().splitlines() if line not in ("BEGIN;", "COMMIT;")]


def _linted(
    connection: BaseDatabaseWrapper, migration: Migration, sql: list[str]
) -> Iterator[Remark]:
    """Yield what django-migration-linter says."""
    linter = MigrationLinter(database=connection.alias, no_cache=True, no_output=True)
    if linter.should_ignore_migration(
        migration.app_label, migration.name, migration.operations, bool(migration.initial)
    ):
        return
    told = analyse_sql_statements(linter.sql_analyser_class, sql, [])
    # Of SQL of the project's own it would read the reverse as well.
    code = [one for one in migration.operations if isinstance(one, RunPython)]
    further = [linter.lint_runpython(one) for one in code]
    for place, level in ((0, "stop"), (2, "warn")):
        for one in [issue for some in (told, *further) for issue in some[place]]:
            where = ".".join(filter(None, (one.table, one.column)))
            text = f"{one.code}: {one.message}" + (f" ({where})" if where else "")
            yield Remark(name_of(migration), "django-migration-linter", text, level)


def _squawked(
    connection: BaseDatabaseWrapper, migration: Migration, sql: list[str], squawk: str
) -> Iterator[Remark]:
    """Yield what squawk says."""
    major, minor = divmod(connection.pg_version, 10000)
    words = [squawk, "--reporter=json", f"--pg-version={major}.{minor}"]
    words.append("--assume-in-transaction" if migration.atomic else "--no-assume-in-transaction")
    words += [f"--exclude={rule}" for rule in _EXCLUDED]
    done = subprocess.run(
        words, input="\n".join(sql), capture_output=True, text=True, check=False, timeout=60
    )
    # A rule's number of findings is its exit status; without a list of them it failed.
    try:
        found = json.loads(done.stdout or "[]")
    except json.JSONDecodeError:
        found = None
    if found is None or (done.returncode and not found):
        raise OSError(f"{squawk} failed: {(done.stderr or done.stdout).strip()}")
    for one in found:
        text = " ".join(filter(None, (f"{one['rule_name']}: {one['message']}", one["help"])))
        yield Remark(name_of(migration), "squawk", text, "stop")
