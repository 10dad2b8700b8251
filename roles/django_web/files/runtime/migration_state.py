"""Say, as one JSON line, what stands between the models, the migration files and the database.

Runs in the application's directory with its environment. With --make (development) it also
writes the migrations that are missing, but only those that cannot lose anything, that Django
would not ask a question about, that every load of the models agrees with, and that this database
takes; with --deploy (production) it runs Django's deployment checks. Only applications below that
directory count: what other packages lack is not the project's to write.

Printed: written (paths of new files), refused (why nothing was written; empty if nothing was
refused), remedy (who ends that: "person", "models" that say another thing at each load, or "run",
the next one; empty if nothing was refused), missing (apps whose models have no migration),
unapplied (app.name; empty while there are several last migrations, whose order nobody knows),
advice (app.model.field of new columns whose default only the new code knows), ghosts (app.name of
what the database has applied and no file makes), problems (what the deployment checks say); with
--serving what serving.py prints. The
exit status is 0 whenever the line was printed; otherwise one line on stderr says why.
"""

import argparse
import datetime
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import (
    BaseCommand,
    CommandError,
    call_command,
    get_commands,
    load_command_class,
)
from django.core.management.base import SystemCheckError
from django.core.management.commands import makemigrations
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, models, transaction
from django.db.migrations import exceptions, operations, questioner
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter
from django.utils import timezone
from django_rehearsal.entry import HERE, enter, own_apps
from project_error import words

# How our own lines begin, whatever else the project prints.
DESCRIBED = '{"described": '
# The project's manage.py may change it.
ENVIRONMENT = dict(os.environ)
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
    """Why no migration is written, and who ends that: a "person", the "models", or the next "run"."""

    def __init__(self, why, remedy="person"):
        super().__init__(why)
        self.remedy = remedy


class NotingQuestioner(questioner.InteractiveMigrationQuestioner):
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
                found += fixed_dates(app, operation)
                operation.state_forwards(app, state)
            try:
                MigrationWriter(migration).as_string()
            except ValueError as error:
                found.append(f"{app}.{migration.name} cannot be written: {error}")
    return found + alike(changes)


def fixed_dates(app, operation):
    """Return the defaults that are the date of today, in a sentence each: tomorrow the models say another."""
    if isinstance(operation, operations.CreateModel):
        fields, model = operation.fields, operation.name
    elif isinstance(operation, operations.AddField | operations.AlterField):
        fields, model = [(operation.name, operation.field)], operation.model_name
    else:
        return []
    now = datetime.datetime.now(datetime.UTC)
    today = {now.date(), timezone.localdate(now, timezone.get_default_timezone())}
    days = {
        name: field.default.date()
        if isinstance(field.default, datetime.datetime)
        else field.default
        for name, field in fields
        if isinstance(field.default, datetime.date)
    }
    return [
        f"the default of {app}.{model}.{name} is the date of today, and tomorrow another if it is made when the models "
        "are loaded: give a function (default=datetime.date.today, without brackets), or make the migration yourself "
        "if it is this day that you mean"
        for name, day in days.items()
        if day in today
    ]


def old_tables(changes, kind):
    """Yield (app, operation) of one kind on tables that the changes do not make, and that may have rows."""
    made = {
        (app, operation.name_lower)
        for app, migrations in changes.items()
        for migration in migrations
        for operation in migration.operations
        if isinstance(operation, operations.CreateModel)
    }
    for app, migrations in changes.items():
        for migration in migrations:
            for operation in migration.operations:
                if isinstance(operation, kind):
                    model = getattr(operation, "model_name_lower", None) or operation.name_lower
                    if (app, model) not in made:
                        yield app, model, operation


def fills_alike(field):
    """Return whether a new column has the same value, and a value, in every row that is there."""
    if field.many_to_many or getattr(field, "generated", False):
        return False
    if field.has_db_default():  # which may be a function, called for each row
        given = field.db_default
        return isinstance(given, models.Value) or not hasattr(given, "resolve_expression")
    # Django fills a text that may be blank even without a default.
    blank = field.blank and field.empty_strings_allowed and not field.null
    return field.default is not None if field.has_default() else blank


def alike(changes):
    """Return the new columns that must differ from row to row, and would not."""
    new = {
        (app, model, operation.name): operation.field
        for app, model, operation in old_tables(changes, operations.AddField)
        if fills_alike(operation.field)
    }
    found = [f"{app}.{model}.{name}" for (app, model, name), field in new.items() if field.unique]
    for app, model, operation in old_tables(changes, operations.AlterUniqueTogether):
        found += together(app, model, new, operation.unique_together)
    for app, model, operation in old_tables(changes, operations.AddConstraint):
        rule = operation.constraint
        if isinstance(rule, models.UniqueConstraint) and rule.fields and rule.condition is None:
            found += together(app, model, new, [rule.fields])
    return [
        f"{name} must be unique, and every row that is there would get the same value: make three migrations, the "
        "first with null=True and nothing unique, the second with a RunPython that gives each row its own value, "
        "the third with the field as it is now"
        for name in dict.fromkeys(found)
    ]


def together(app, model, new, groups):
    """Return the groups of fields, as one name each, of which every one is new and alike in all rows."""
    return [
        f"{app}.{model}.{'+'.join(group)}"
        for group in groups or ()
        if all((app, model, name) in new for name in group)
    ]


def unknown_defaults(changes):
    """Return the new columns of tables with rows that code without them can't insert into."""
    return [
        f"{app}.{operation.model_name}.{operation.name}"
        for app, _model, operation in old_tables(changes, operations.AddField)
        if not (operation.field.null or operation.field.many_to_many)
        and not operation.field.has_db_default()
        and not getattr(operation.field, "generated", False)
    ]


def plain(value):
    """Return what a deconstructed value says, in words that are the same wherever it is the same."""
    if isinstance(value, dict):
        return {plain(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return f"[{', '.join(str(plain(one)) for one in value)}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(str(plain(one)) for one in value))}}}"
    return value if isinstance(value, str) else re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def described():
    """Return what the project's own models say: {app.model: {field, or Meta: {argument: words}}}."""
    own, found = own_apps(), {}
    deconstruct = MigrationAutodetector(ProjectState(), ProjectState()).deep_deconstruct
    for (app, _name), model in ProjectState.from_apps(apps).models.items():
        if app in own:
            parts = {"Meta": plain(deconstruct(model.options))}
            for name, field in model.fields.items():
                path, arguments, named = deconstruct(field)
                parts[name] = {"type": path, "arguments": plain(arguments), **plain(named)}
            found[f"{app}.{model.name}"] = parts
    return found


def differences(one, other):
    """Yield in a sentence each what two loads of the models do not agree on."""
    for model in sorted(one.keys() | other.keys()):
        parts = [load.get(model, {}) for load in (one, other)]
        for name in sorted(parts[0].keys() | parts[1].keys()):
            first, second = (part.get(name, {}) for part in parts)
            for argument in sorted(first.keys() | second.keys()):
                values = [str(part.get(argument, "nothing")) for part in (first, second)]
                if values[0] != values[1]:
                    short = max(map(len, values)) <= 80
                    said = f" ({values[0]}, then {values[1]})" if short else ""
                    yield f"{model}.{name} has another {argument} at each load{said}"


def unstable():
    """Return what the models say differently in another process; two, for two orders of a set may be the same."""
    here = described()
    for seed in ("1", "2"):
        load = subprocess.run(
            [sys.executable, __file__, "--describe"],
            cwd=HERE,
            env={**ENVIRONMENT, "PYTHONHASHSEED": seed},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if load.returncode:
            words = load.stderr.strip().splitlines() or ["it says nothing"]
            return [f"the project could be loaded once, and not again: {words[-1]}"]
        (line,) = [line for line in load.stdout.splitlines() if line.startswith(DESCRIBED)]
        if found := list(differences(here, json.loads(line)["described"])):
            return found
    return []


def in_order(changes):
    """Return the new migrations, each after those of them that it depends on."""
    left = {(app, one.name): one for app, migrations in changes.items() for one in migrations}
    found = []
    while left:
        ready = [key for key, one in left.items() if not left.keys() & set(one.dependencies)]
        found += [left.pop(key) for key in ready or list(left)]
    return found


def can_be_tried(migration):
    """Return whether taking back what a migration did takes back all that it did."""
    kinds = (operations.RunPython, operations.SeparateDatabaseAndState)
    return migration.atomic and not any(isinstance(one, kinds) for one in migration.operations)


def trial(changes):
    """Apply the new migrations to the database and take that back; raise Refused where it fails."""
    connection = connections[DEFAULT_DB_ALIAS]
    executor = MigrationExecutor(connection)
    if not executor.loader.applied_migrations:  # there are no rows either
        return
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    pending = [migration for migration, _backwards in plan]
    if late := [f"{one.app_label}.{one.name}" for one in pending if not can_be_tried(one)]:
        raise Refused(f"{', '.join(late)} must be applied before", "run")
    state = executor._create_project_state(with_applied_migrations=True)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '10s'")
        for migration in [*pending, *in_order(changes)]:
            try:
                with connection.schema_editor() as editor:
                    state = migration.apply(state, editor)
                connection.check_constraints()
            except DatabaseError as error:
                name = f"{migration.app_label}.{migration.name}"
                raise Refused(f"tried on this database, {name} fails: {error}") from error
        transaction.set_rollback(True)


class Watching:
    """What is laid over the project's makemigrations; looks at the operations before a file is written."""

    changed, advice, refusal, stranger = (), (), None, ""

    def write_migration_files(self, changes, *args, **kwargs):
        """Refuse what asks a question, loses something or would be another next time; then do as ever."""
        self.changed = sorted(changes)
        try:
            self.look(changes)
            super().write_migration_files(changes, *args, **kwargs)
        except OSError as error:
            self.refusal = Refused(f"the migration cannot be written: {error}")
        except Refused as refusal:
            self.refusal = refusal
        else:
            self.advice = unknown_defaults(changes)

    def look(self, changes):
        """Raise Refused where these migrations are not to be written."""
        if found := unstable():
            raise Refused("; ".join(found), "models")
        if why := NotingQuestioner.asked + reasons(changes):
            raise Refused("; ".join(why))
        if self.stranger:
            raise Refused(
                f"{self.stranger}, the project's own makemigrations, is not made of Django's, so what it would write "
                "cannot be looked at before"
            )
        if not self.dry_run:
            trial(changes)


def make_command():
    """Return the project's makemigrations, which looks before it writes."""
    # Before the project's own command takes it from there.
    questioner.InteractiveMigrationQuestioner = NotingQuestioner
    makemigrations.InteractiveMigrationQuestioner = NotingQuestioner
    own = get_commands()["makemigrations"]
    kind = type(own if isinstance(own, BaseCommand) else load_command_class(own, "makemigrations"))
    ours = issubclass(kind, makemigrations.Command)
    command = type("Command", (Watching, kind if ours else makemigrations.Command), {})
    command.stranger = "" if ours else f"{kind.__module__}.{kind.__qualname__}"
    return command(stdout=io.StringIO(), stderr=io.StringIO(), no_color=True)


def hand_over(paths):
    """Give what root wrote to the owner of the project; a command of its own may write more than migrations."""
    owner = HERE.stat()
    if os.geteuid() == 0:
        for place in {Path(path).parent for path in paths}:
            for made in (place, *place.iterdir()):
                if made.stat().st_uid == 0:
                    os.chown(made, owner.st_uid, owner.st_gid)


def make(dry_run):
    """Return what the line says of models and files: written, missing, refused, remedy and advice."""
    said = {"written": [], "missing": [], "refused": "", "remedy": "", "advice": []}
    if not (labels := own_apps()):
        return said
    written = io.StringIO()
    options = {"interactive": True, "scriptable": True, "dry_run": dry_run, "stdout": written}
    # What the project itself prints must not reach our one line.
    screen, sys.stdout = sys.stdout, io.StringIO()
    try:
        command = make_command()
        call_command(command, *labels, **options)
        refusal = command.refusal
    except CommandError as error:
        refusal = Refused(str(error))
    finally:
        sys.stdout = screen
    said["missing"] = list(command.changed)
    if refusal:
        return said | {"refused": " ".join(str(refusal).split()), "remedy": refusal.remedy}
    paths = [path for path in written.getvalue().split("\n") if path and not dry_run]
    hand_over(paths)
    return said | {"written": paths, "advice": list(command.advice)}


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


def serving(facts):
    """Return what serving.py says in a process of its own; end here, with its words, where it fails."""
    program = [sys.executable, Path(__file__).with_name("serving.py"), facts]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(1)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    """Parse the arguments and print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--make", action="store_true", help="write migrations that lose nothing")
    parser.add_argument("--deploy", action="store_true", help="run the deployment checks")
    parser.add_argument("--describe", action="store_true", help="say what the models say")
    parser.add_argument("--serving", metavar="JSON", help="see serving.py; comes first")
    asked = parser.parse_args()
    served = {} if asked.serving is None else serving(asked.serving)
    try:
        enter()
        if asked.describe:
            print("\n" + json.dumps({"described": described()}))
            return
        connections[DEFAULT_DB_ALIAS].ensure_connection()
        problems = deployment_problems() if asked.deploy else []
        state = {"problems": problems, **make(dry_run=not asked.make)}
        state["unapplied"], state["ghosts"] = against_database()
    except UNREADABLE as error:
        sys.exit(f"migration_state.py: {' '.join(str(error).split())}")
    except Exception as error:  # noqa: BLE001 - the project's code may raise anything
        sys.exit(f"migration_state.py: {words(error)}")
    # On a line of its own, whatever the project has printed.
    print("\n" + json.dumps(state | served))


if __name__ == "__main__":
    main()
