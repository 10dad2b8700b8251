"""What the application's image says of migrations, on small projects over a real PostgreSQL.

Django comes from the application's own lock.
"""

import json
import os
import re
import shlex
import shutil
import subprocess

import jinja2
import pytest
import yaml
from project import SETTINGS, Project

PIN = re.compile(r"^([\w.\[\]-]+)==([\w.]+)", re.MULTILINE)
FIELDS = {
    "name": "models.CharField(max_length=50)",
    "note": "models.CharField(max_length=50, null=True)",
    "price": "models.DecimalField(max_digits=9, decimal_places=4)",
    "count": "models.IntegerField(default=0)",
    "text": "models.TextField(default='')",
    "certain": "models.BooleanField(null=True)",
    "words": "ArrayField(models.TextField(), default=list)",
    "kind": "models.ForeignKey('Kind', models.CASCADE, null=True)",
}
OTHERS = """
from django.db import models
from django.contrib.postgres.fields import ArrayField

class Kind(models.Model):
    code = models.CharField(max_length=9, unique=True)

class Sort(models.Model):
    code = models.CharField(max_length=9, unique=True)
"""
UNCHANGED = {
    "written": [],
    "missing": [],
    "refused": "",
    "problems": [],
    "advice": [],
    "ghosts": [],
    "remedy": "",
}


def models(meta="pass", **changes):
    """Return models.py with the fields above, some changed, added or (None) removed."""
    fields = {name: field for name, field in (FIELDS | changes).items() if field}
    lines = [f"    {name} = {field}" for name, field in fields.items()]
    meta = f"    class Meta: {meta}"
    return "\n".join([OTHERS, "class Item(models.Model):", *lines, meta, ""])


@pytest.fixture(scope="session")
def template(tmp_path_factory, python, postgres, repository):
    """Return a project whose first migration is written."""
    path = tmp_path_factory.mktemp("template") / "project"
    project = Project(path, python, postgres, repository / "roles/django_web/files/runtime")
    project.begin(models())
    return project


@pytest.fixture
def project(template, tmp_path):
    """Return a fresh copy of the project, over the database that all tests share."""
    path = tmp_path / "project"
    shutil.copytree(template.path, path)
    return Project(path, template.python, template.server, template.runtime)


# Changes of the models that lose nothing and raise no question, and the file they make.
HARMLESS = {
    "a field with a default": ({"extra": "models.IntegerField(default=1)"}, "0002_item_extra"),
    "a field that may be null": ({"extra": "models.TextField(null=True)"}, "0002_item_extra"),
    "a longer text": ({"name": "models.CharField(max_length=60)"}, "0002_alter_item_name"),
    "any text": ({"name": "models.TextField()"}, "0002_alter_item_name"),
    "a limit of forms": ({"text": "models.TextField(default='', max_length=9)"}, "0002_alter_item"),
    "a larger number": ({"count": "models.BigIntegerField(default=0)"}, "0002_alter_item_count"),
    "more places": (
        {"price": "models.DecimalField(max_digits=11, decimal_places=6)"},
        "0002_alter_item_price",
    ),
    "a check of forms": (
        {"name": "models.EmailField(max_length=50, help_text='where?')"},
        "0002_alter_item_name",
    ),
    "what happens without it": (
        {"kind": "models.ForeignKey('Kind', models.SET_NULL, null=True)"},
        "0002_alter_item_kind",
    ),
    "an index": ({"meta": "indexes = [models.Index(models.F('count'), name='i')]"}, "0002_item_i"),
    "an order": ({"meta": "ordering = ['name']"}, "0002_alter_item_options"),
    "may be null": ({"name": "models.CharField(max_length=50, null=True)"}, "0002_alter_item_name"),
}

# Changes that a person must decide on, and what the reason must name.
RISKY = {
    "removed": ({"name": None}, "Remove field name from item"),
    "renamed": ({"name": None, "title": FIELDS["name"]}, "Was item.name renamed to item.title"),
    "not null, no default": ({"extra": "models.IntegerField()"}, "non-nullable field 'extra'"),
    "null no more": ({"note": FIELDS["name"]}, "nullable field 'note'"),
    "auto_now_add": ({"made": "models.DateField(auto_now_add=True)"}, "field 'made'"),
    "unique callable": (
        {"key": "models.UUIDField(default=__import__('uuid').uuid4, unique=True)"},
        "unique field item.key",
    ),
    "shorter": ({"name": "models.CharField(max_length=9)"}, "Alter field name on item"),
    "cut": ({"text": "models.CharField(max_length=9, default='')"}, "Alter field text on item"),
    "rounded": (
        {"price": "models.DecimalField(max_digits=9, decimal_places=2)"},
        "Alter field price on item",
    ),
    "another type": ({"price": "models.IntegerField()"}, "Alter field price on item"),
    "fewer digits": (
        {"price": "models.DecimalField(max_digits=9, decimal_places=6)"},
        "Alter field price on item",
    ),
    "null filled": (
        {"certain": "models.BooleanField(default=True)"},
        "Alter field certain on item",
    ),
    "other elements": (
        {"words": "ArrayField(models.CharField(max_length=9), default=list)"},
        "Alter field words on item",
    ),
    "refers elsewhere": (
        {"kind": "models.ForeignKey('Sort', models.CASCADE, null=True)"},
        "Alter field kind on item",
    ),
    "refers by another column": (
        {"kind": "models.ForeignKey('Kind', models.CASCADE, null=True, to_field='code')"},
        "Alter field kind on item",
    ),
    "computed": (
        {
            "count": "models.GeneratedField(expression=models.Value(1), db_persist=True,"
            " output_field=models.IntegerField())"
        },
        "Alter field count on item",
    ),
    "one of two": (
        {"extra": "models.IntegerField(default=1)", "name": None},
        "Remove field name from item",
    ),
}


def test_a_new_model_gets_a_migration_which_is_listed_and_not_yet_applied(project):
    shutil.rmtree(project.path / "shop/migrations")
    project.write("shop/migrations/__init__.py", "")
    state = project.state("--make")
    assert state == UNCHANGED | {
        "written": ["shop/migrations/0001_initial.py"],
        "missing": ["shop"],
        "unapplied": ["shop.0001_initial"],
    }
    assert "CreateModel" in (project.path / "shop/migrations/0001_initial.py").read_text()
    assert project.state("--make") == UNCHANGED | {"unapplied": ["shop.0001_initial"]}


def test_with_nothing_to_do_everything_is_empty(project):
    project.own_database()
    project.manage("migrate", "--verbosity=0")
    before = project.files()
    for arguments in ([], ["--make"]):
        assert project.state(*arguments) == UNCHANGED | {"unapplied": []}
    assert project.files() == before


def test_migrations_that_another_branch_applied_are_named(project):
    project.own_database()
    project.write("shop/models.py", models(extra="models.IntegerField(default=1)"))
    project.state("--make")
    project.manage("migrate", "--verbosity=0")
    (project.path / "shop/migrations/0002_item_extra.py").unlink()
    project.write("shop/models.py", models())
    state = project.state("--make")
    assert state["ghosts"] == ["shop.0002_item_extra"]
    assert state["unapplied"] == state["written"] == []


def test_unapplied_migrations_come_in_the_order_of_their_application(project):
    project.write("shop/models.py", models(extra="models.IntegerField(default=1)"))
    project.state("--make")
    assert project.state()["unapplied"] == ["shop.0001_initial", "shop.0002_item_extra"]


@pytest.mark.parametrize("change", HARMLESS)
def test_a_change_that_loses_nothing_is_written(project, change):
    fields, name = HARMLESS[change]
    project.write("shop/models.py", models(**fields))
    state = project.state("--make")
    assert state["refused"] == ""
    assert state["missing"] == ["shop"]
    (written,) = state["written"]
    assert written.startswith(f"shop/migrations/{name}")
    assert (project.path / written).exists()


@pytest.mark.parametrize("change", RISKY)
def test_a_change_that_a_person_must_decide_on_is_refused_and_not_written(project, change):
    fields, reason = RISKY[change]
    project.write("shop/models.py", models(**fields))
    before = project.files()
    state = project.state("--make")
    assert reason in state["refused"]
    assert "[y/N]" not in state["refused"]
    assert "Please" not in state["refused"]
    assert state["written"] == []
    assert state["missing"] == ["shop"]
    assert project.files() == before


@pytest.mark.parametrize(
    ("extra", "advice"),
    [
        ("models.IntegerField(default=1)", ["shop.item.extra"]),
        ("models.IntegerField(default=1, db_default=1)", []),
        ("models.IntegerField(default=1, null=True)", []),
        ("models.ManyToManyField('Kind')", []),
        (
            "models.GeneratedField(expression=models.F('count'), output_field=models.IntegerField(), db_persist=True)",
            [],
        ),
    ],
)
def test_a_column_that_only_new_code_can_fill_is_told(project, extra, advice):
    project.write("shop/models.py", models(extra=extra))
    state = project.state("--make")
    assert state["refused"] == "" and len(state["written"]) == 1
    assert state["advice"] == advice


def test_a_new_table_has_no_old_code_to_fill_it(project):
    further = "\n\nclass Box(models.Model):\n    size = models.IntegerField(default=1)\n"
    project.write("shop/models.py", models() + further)
    state = project.state("--make")
    assert len(state["written"]) == 1 and state["advice"] == []


def test_an_order_of_rows_is_added_but_not_thrown_away(project):
    project.write("shop/models.py", models("order_with_respect_to = 'kind'"))
    assert project.state("--make")["written"]
    project.write("shop/models.py", models())
    state = project.state("--make")
    assert "order_with_respect_to" in state["refused"]
    assert state["written"] == []


def test_a_name_that_the_database_has_applied_is_not_given_again(project):
    project.own_database()
    project.write("shop/models.py", models(extra="models.IntegerField(default=1)"))
    (written,) = project.state("--make")["written"]
    project.manage("migrate", "--verbosity=0")
    (project.path / written).unlink()
    project.write("shop/models.py", models(extra="models.TextField(default='')"))
    state = project.state("--make")
    assert "shop.0002_item_extra" in state["refused"]
    assert "--name" in state["refused"]
    assert state["written"] == []


def test_what_cannot_be_written_is_a_reason_and_leaves_no_file(project):
    project.write("shop/models.py", models(extra="models.TextField(default=lambda: '')"))
    before = project.files()
    state = project.state("--make")
    assert "Cannot serialize function: lambda" in state["refused"]
    assert project.files() == before


def test_an_application_of_another_package_is_not_the_projects_to_migrate(project, tmp_path):
    project.write(
        "../elsewhere/packaged/models.py",
        "from django.db import models\nclass Thing(models.Model):\n    a = models.IntegerField()\n",
    )
    project.write("../elsewhere/packaged/__init__.py", "")
    project.write("../elsewhere/packaged/migrations/__init__.py", "")
    project.env["PYTHONPATH"] = str(tmp_path / "elsewhere")
    project.env["TEST_APPS"] = "shop packaged"
    for arguments in ([], ["--make"]):
        state = project.state(*arguments)
        assert (state["written"], state["missing"], state["refused"]) == ([], [], "")
    assert os.listdir(tmp_path / "elsewhere/packaged/migrations") == ["__init__.py"]


def test_an_application_without_a_folder_of_migrations_gets_one(project):
    shutil.rmtree(project.path / "shop/migrations")
    assert project.state()["missing"] == ["shop"]
    state = project.state("--make")
    assert state["written"] == ["shop/migrations/0001_initial.py"]
    assert state["unapplied"] == ["shop.0001_initial"]


def test_what_root_writes_belongs_to_the_projects_owner(project):
    for place in (project.path, *project.path.rglob("*")):
        os.chown(place, 1234, 4321)
    project.write("shop/models.py", models(extra="models.IntegerField(default=1)"))
    (written,) = project.state("--make")["written"]
    status = (project.path / written).stat()
    assert (status.st_uid, status.st_gid) == (1234, 4321)


def test_a_removed_model_is_refused_and_not_written(project):
    project.write("shop/models.py", OTHERS)
    before = project.files()
    state = project.state("--make")
    assert "Delete model Item" in state["refused"]
    assert (state["written"], state["missing"]) == ([], ["shop"])
    assert project.files() == before


def test_a_renamed_model_is_refused_and_not_written(project):
    project.write("shop/models.py", models().replace("Item", "Article"))
    before = project.files()
    state = project.state("--make")
    assert "Was the model shop.Item renamed to Article?" in state["refused"]
    assert (state["written"], state["missing"]) == ([], ["shop"])
    assert project.files() == before


def test_every_reason_is_told_at_once(project):
    project.write("shop/models.py", models(name=None, extra="models.IntegerField()"))
    refused = project.state("--make")["refused"]
    assert "Remove field name" in refused
    assert "'extra'" in refused


@pytest.mark.parametrize(
    "fields",
    [{"extra": "models.IntegerField(default=1)"}, {"name": None}, {"e": "models.TextField()"}],
    ids=["harmless", "removed", "question"],
)
def test_without_make_nothing_is_written_and_the_application_is_named_all_the_same(project, fields):
    project.write("shop/models.py", models(**fields))
    before = project.files()
    state = project.state()
    assert state["missing"] == ["shop"]
    assert state["written"] == []
    assert bool(state["refused"]) == ("extra" not in fields)
    assert project.files() == before


def test_two_last_migrations_are_a_reason_and_no_failure(project):
    migration = (
        "from django.db import migrations\nclass Migration(migrations.Migration):\n"
        "    dependencies = [('shop', '0001_initial')]\n"
    )
    project.write("shop/migrations/0002_mine.py", migration)
    project.write("shop/migrations/0002_yours.py", migration)
    before = project.files()
    state = project.state("--make")
    assert "0002_mine, 0002_yours in shop" in state["refused"]
    assert state["written"] == []
    assert state["unapplied"] == []  # in which order, nobody knows
    assert project.files() == before


def failure(process):
    """Return the one line that a program said instead of doing its work."""
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1, process.stderr
    return process.stderr


@pytest.mark.parametrize("arguments", [["--make"], ["--deploy"]])
def test_a_history_that_contradicts_itself_is_told_in_one_line(project, arguments):
    project.own_database()
    project.write("shop/models.py", models(extra="models.IntegerField(default=1)"))
    project.state("--make")
    project.manage("migrate", "--verbosity=0")
    database = project.env["TEST_DATABASE"]
    project.server.sql("DELETE FROM django_migrations WHERE name = '0001_initial'", database)
    said = failure(project.run("migration_state.py", *arguments))
    assert said.startswith("migration_state.py: Migration shop.0002_item_extra is applied before")


def test_a_migration_that_needs_a_missing_one_is_told_in_one_line(project):
    (project.path / "shop/migrations/0001_initial.py").rename(
        project.path / "shop/migrations/0001_another.py"
    )
    project.write(
        "shop/migrations/0002_next.py",
        "from django.db import migrations\nclass Migration(migrations.Migration):\n"
        "    dependencies = [('shop', '0001_initial')]\n",
    )
    said = failure(project.run("migration_state.py", "--make"))
    assert "'0001_initial'" in said


def test_a_database_that_does_not_answer_is_told_in_one_line_without_the_password(project):
    project.env["TEST_PORT"] = "1"
    said = failure(project.run("migration_state.py", "--make"))
    assert "Connection refused" in said
    project.env["TEST_PORT"] = project.server.port
    project.write("password", "Canary")
    said = failure(project.run("migration_state.py"))
    assert "password authentication failed" in said
    assert "Canary" not in said


def test_what_the_project_prints_itself_does_not_spoil_the_last_line(project):
    loud = """
class Loud(models.TextField):
    def deconstruct(self):
        print("hello from deconstruct", end="")
        return super().deconstruct()
"""
    changed = models(text="Loud(default='')").replace("class Item", f"{loud}\nclass Item")
    project.write("shop/models.py", changed)
    assert project.state()["missing"] == ["shop"]
    parting = "import atexit; atexit.register(print, 'level logger message timestamp')"
    project.write("shop/models.py", f"print('hello from models', end='')\n{parting}\n{models()}")
    for program, begins in (
        ("migration_state.py", '{"problems": '),
        ("schema_fit.py", '{"unfit": '),
    ):
        process = project.run(program)
        assert process.returncode == 0
        (line,) = [one for one in process.stdout.splitlines() if one.startswith(begins)]
        assert json.loads(line)


def test_the_deployment_checks_complaints_are_listed_if_they_are_asked_for(project):
    assert project.state()["problems"] == []
    problems = project.state("--deploy")["problems"]
    for check in ("security.W009", "security.W020"):
        (problem,) = [line for line in problems if check in line]
        assert problem.startswith("?: (security.")
        assert "\n" not in problem
    project.write("settings.py", SETTINGS + f"SECRET_KEY = {os.urandom(40).hex()!r}\n")
    assert not [line for line in project.state("--deploy")["problems"] if "W009" in line]
    project.write(
        "shop/__init__.py",
        "from django.core import checks\n@checks.register(deploy=True)\n"
        "def key(app_configs, **kwargs):\n    return [checks.Error('payment key missing')]\n",
    )
    assert "?: payment key missing" in project.state("--deploy")["problems"]


# -- what is another thing at each load, or in no second row --------------------------------------

# Fields whose models say another thing in each process, and the argument that does.
UNSTABLE = {
    "now": ("models.DateTimeField(default=timezone.now())", "default"),
    "a set": (
        "models.CharField(max_length=9, choices=[(w, w) for w in set('abcdefghij')])",
        "choices",
    ),
    "chance": ("models.FloatField(default=random.random())", "default"),
    "a process": ("models.IntegerField(help_text=os.getpid(), null=True)", "help_text"),
    "an address": ("models.CharField(max_length=9, default=str(object()))", "default"),
}
HEAD = "import datetime, os, random\nfrom django.utils import timezone\n"


@pytest.mark.parametrize("case", UNSTABLE)
def test_what_differs_at_each_load_is_not_written_but_named(project, case):
    field, argument = UNSTABLE[case]
    project.write("shop/models.py", HEAD + models(extra=field))
    before = project.files()
    for arguments in (["--make"], ["--make"], ["--deploy"]):
        state = project.state(*arguments)
        assert f"shop.Item.extra has another {argument} at each load" in state["refused"]
        assert (state["remedy"], state["written"], state["missing"]) == ("models", [], ["shop"])
    assert project.files() == before


def test_options_and_whole_models_that_differ_at_each_load_are_named(project):
    model = "\nglobals()[n] = type(n, (models.Model,), {'__module__': __name__})\n"
    project.write(
        "shop/models.py",
        HEAD + models("verbose_name = str(random.random())") + "n = f'M{os.getpid()}'" + model,
    )
    refused = project.state("--make")["refused"]
    assert "shop.Item.Meta has another verbose_name at each load" in refused
    assert "shop.M" in refused


def test_what_is_the_same_at_each_load_is_written(project):
    same = {
        "a": "models.DateTimeField(default=timezone.now)",
        "b": "models.CharField(max_length=9, choices=sorted({'a': 1, 'b': 2}.items()), default='a')",
        "c": "models.JSONField(default=dict)",
        "d": "models.DateField(default=datetime.date(2020, 1, 1))",
    }
    project.write(
        "shop/models.py", HEAD + models("unique_together = {('a', 'name'), ('b', 'name')}", **same)
    )
    state = project.state("--make")
    assert state["refused"] == "" and len(state["written"]) == 1


def test_a_date_of_today_is_not_written(project):
    """It is the same at each load of today, and another tomorrow."""
    field = "models.DateField(default=datetime.date.today())"
    project.write("shop/models.py", HEAD + models(extra=field))
    state = project.state("--make")
    assert "the default of shop.item.extra is the date of today" in state["refused"]
    assert state["written"] == []


ALIKE = {
    "a text": {"extra": "models.SlugField(unique=True, default='')"},
    "blank alone": {"extra": "models.SlugField(unique=True, blank=True)"},
    "a callable": {"extra": "models.UUIDField(default=__import__('uuid').uuid4, unique=True)"},
    "null as well": {"extra": "models.IntegerField(unique=True, null=True, default=1)"},
    "one to one": {"extra": "models.OneToOneField('Kind', models.CASCADE, default=1)"},
    "the database's": {"extra": "models.IntegerField(unique=True, db_default=1)"},
    "together": {
        "extra": "models.IntegerField(default=1)",
        "other": "models.IntegerField(default=1)",
        "meta": "unique_together = [('extra', 'other')]",
    },
    "a constraint": {
        "extra": "models.IntegerField(default=1)",
        "meta": "constraints = [models.UniqueConstraint(fields=['extra'], name='u')]",
    },
}


@pytest.mark.parametrize("case", ALIKE)
def test_what_would_be_the_same_in_rows_that_must_differ_is_not_written(project, case):
    project.write("shop/models.py", models(**ALIKE[case]))
    before = project.files()
    state = project.state("--make")
    assert "shop.item.extra" in state["refused"]
    assert (
        "every row that is there would get the same value: make three migrations"
        in state["refused"]
    )
    assert (state["written"], state["missing"]) == ([], ["shop"])
    assert project.files() == before


APART = {
    "empty": {"extra": "models.SlugField(unique=True, null=True)"},
    "made by the database": {
        "extra": "models.UUIDField(unique=True, db_default=RandomUUID())",
    },
    "with an old field": {
        "extra": "models.IntegerField(default=1)",
        "meta": "unique_together = [('extra', 'name')]",
    },
}


@pytest.fixture
def filled(project):
    """Return the project over a database of its own with two items in it."""
    database = project.own_database()
    project.manage("migrate", "--verbosity=0")
    rows = "('a', 1, 0, '', '{}'), ('b', 1, 0, '', '{}')"
    project.server.sql(
        f"INSERT INTO shop_item (name, price, count, text, words) VALUES {rows}", database
    )
    return project


@pytest.mark.parametrize("case", APART)
def test_what_differs_from_row_to_row_is_written_and_can_be_applied(filled, case):
    filled.write(
        "shop/models.py",
        "from django.contrib.postgres.functions import RandomUUID\n" + models(**APART[case]),
    )
    state = filled.state("--make")
    assert state["refused"] == "" and len(state["written"]) == 1
    filled.manage("migrate", "--verbosity=0")


# What fails because of the rows that are there, and what PostgreSQL says of it.
FAILS = {
    "unique": (
        {"price": "models.DecimalField(max_digits=9, decimal_places=4, unique=True)"},
        "duplicated",
    ),
    "a constraint": (
        {"meta": "constraints = [models.UniqueConstraint(fields=['count'], name='u')]"},
        "duplicated",
    ),
    "a check": (
        {
            "meta": "constraints = [models.CheckConstraint(condition=models.Q(count__gt=5), name='c')]"
        },
        "violated by some row",
    ),
    "a reference": (
        {"extra": "models.ForeignKey('Kind', models.CASCADE, default=1)"},
        "not present",
    ),
    "now for all": ({"extra": "models.DateTimeField(unique=True, db_default=Now())"}, "duplicated"),
}


@pytest.mark.parametrize("case", FAILS)
def test_what_this_database_does_not_take_is_not_written(filled, case):
    fields, why = FAILS[case]
    filled.write(
        "shop/models.py", "from django.db.models.functions import Now\n" + models(**fields)
    )
    before = filled.files()
    for _again in range(2):
        state = filled.state("--make")
        assert "tried on this database, shop.0002_" in state["refused"]
        assert why in state["refused"]
        assert (state["written"], state["unapplied"]) == ([], [])
    assert filled.files() == before
    # Back to what is well, nothing is left of it.
    filled.write("shop/models.py", models())
    assert filled.state("--make") == UNCHANGED | {"unapplied": []}


def test_migrations_are_tried_in_their_order_with_those_that_wait(filled):
    filled.write("shop/models.py", models(extra="models.IntegerField(default=1)"))
    assert filled.state("--make")["written"]
    more = "\nclass Box(models.Model):\n    item = models.ForeignKey(Item, models.CASCADE)\n"
    filled.write("shop/models.py", models(extra="models.BigIntegerField(default=1)") + more)
    state = filled.state("--make")
    assert state["refused"] == "" and len(state["unapplied"]) == 2
    filled.manage("migrate", "--verbosity=0")


def test_behind_a_migration_that_cannot_be_taken_back_nothing_is_written_yet(filled):
    filled.write(
        "shop/migrations/0002_code.py",
        "from django.db import migrations\nclass Migration(migrations.Migration):\n"
        "    dependencies = [('shop', '0001_initial')]\n"
        "    operations = [migrations.RunPython(lambda apps, editor: None)]\n",
    )
    filled.write("shop/models.py", models(extra="models.IntegerField(default=1)"))
    state = filled.state("--make")
    assert (state["remedy"], state["written"]) == ("run", [])
    assert state["unapplied"] == ["shop.0002_code"]
    filled.manage("migrate", "--verbosity=0")
    assert filled.state("--make")["written"] == ["shop/migrations/0003_item_extra.py"]


# -- a makemigrations of the project's own ---------------------------------------------------------

OWN = """
from django.core.management.commands import makemigrations
class Command(makemigrations.Command):
    def write_migration_files(self, changes, *args, **kwargs):
        super().write_migration_files(changes, *args, **kwargs)
        if not self.dry_run:
            for app, migrations in changes.items():
                open(f"{app}/migrations/last.txt", "w").write(migrations[-1].name)
"""
STRANGE = """
from django.core.management.base import BaseCommand
class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("labels", nargs="*")
    def handle(self, **options):
        open("shop/migrations/9999_strange.py", "w").write("")
"""
MAKES = "shop/management/commands/makemigrations.py"


def test_the_projects_own_makemigrations_writes_what_was_looked_at(project):
    project.write(MAKES, OWN)
    for place in (project.path, *project.path.rglob("*")):
        os.chown(place, 1234, 4321)
    project.write("shop/models.py", models(name=None))
    assert "Remove field name" in project.state("--make")["refused"]
    assert not (project.path / "shop/migrations/last.txt").exists()
    project.write("shop/models.py", models(extra="models.IntegerField(default=1)"))
    assert project.state("--deploy")["missing"] == ["shop"]
    assert not (project.path / "shop/migrations/last.txt").exists()
    assert project.state("--make")["written"] == ["shop/migrations/0002_item_extra.py"]
    last = project.path / "shop/migrations/last.txt"
    assert last.read_text() == "0002_item_extra"
    assert last.stat().st_uid == 1234


def test_a_makemigrations_that_is_not_djangos_is_not_let_write(project):
    project.write(MAKES, STRANGE)
    assert project.state("--make")["refused"] == ""
    project.write("shop/models.py", models(extra="models.IntegerField(default=1)"))
    before = project.files()
    state = project.state("--make")
    assert "shop.management.commands.makemigrations.Command, the project's own" in state["refused"]
    assert (state["written"], state["missing"]) == ([], ["shop"])
    assert project.files() == before


# -- the way into a project ---------------------------------------------------------------------

# Each adds the folder `src`, in which there is an application, and says TEST_MARK.
MANAGE = """
import os, sys
def main():
    os.environ["TEST_MARK"] = "set"
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "src"))
    {enter}
if __name__ == "__main__":
    main()
"""
COMMAND = "from django.core.management import execute_from_command_line as go; go(sys.argv)"
WAYS = {
    "Django's": COMMAND,
    "its class": "from django.core.management import ManagementUtility as M; M(sys.argv).execute()",
    "settings in the arguments": COMMAND.replace("sys.argv", "[*sys.argv, '--settings=settings']"),
    "another directory": f"os.chdir('src'); {COMMAND}",
    "caught": f"\n    try:\n        {COMMAND}\n    except Exception:\n        sys.exit('caught')",
    "set up twice": f"import django; django.setup(); {COMMAND}",
    "a command run by itself": (
        "import django; django.setup(); from django.core.management import call_command as c;"
        " c('check'); print('noise'); sys.exit(0)"
    ),
}
THING = "from django.db import models\nclass Thing(models.Model):\n    pass\n"


@pytest.fixture
def winding(project):
    """Return a project whose second application is only found by whoever enters as manage.py does."""
    project.write("src/hidden/__init__.py", "")
    project.write("src/hidden/models.py", THING)
    project.write("src/hidden/migrations/__init__.py", "")
    project.write("settings.py", SETTINGS + "MARK = os.environ['TEST_MARK']\n")
    project.env["TEST_APPS"] = "shop hidden"
    project.own_database()
    return project


@pytest.mark.parametrize("way", WAYS)
def test_a_project_is_entered_as_its_manage_py_does(winding, way):
    winding.write("manage.py", MANAGE.format(enter=WAYS[way]))
    if "arguments" in way:
        del winding.env["DJANGO_SETTINGS_MODULE"]
    assert winding.state()["missing"] == ["hidden"]
    assert winding.state("--make")["written"] in (
        ["src/hidden/migrations/0001_initial.py"],
        ["hidden/migrations/0001_initial.py"],
    )
    fit = winding.run("schema_fit.py")
    assert "the table hidden_thing is missing" in json.loads(fit.stdout)["unfit"], fit.stderr
    assert winding.ask("look")[0]["pending"] == ["hidden.0001_initial", "shop.0001_initial"]


def test_a_manage_py_elsewhere_is_followed_through_its_link(winding):
    winding.write("src/manage.py", MANAGE.format(enter=COMMAND).replace('"src"', '"."'))
    winding.write("src/settings.py", (winding.path / "settings.py").read_text())
    shutil.move(winding.path / "shop", winding.path / "src/shop")
    for name in ("manage.py", "settings.py"):
        (winding.path / name).unlink()
    (winding.path / "manage.py").symlink_to("src/manage.py")
    assert winding.state()["missing"] == ["hidden"]
    assert winding.ask("look")[0]["pending"] == ["shop.0001_initial"]


def test_a_program_of_ours_hides_no_module_of_the_projects(project):
    project.write("schema_fit.py", "HERE = True\n")
    project.write("shop/models.py", models() + "\nfrom schema_fit import HERE\n")
    assert project.state()["missing"] == []


# Databases that are not the stack's, by what the settings say of them.
NOT_OURS = {
    "ENGINE": ("'django.db.backends.sqlite3'", "ENGINE 'django.db.backends.sqlite3'"),
    "HOST": ("'db.example.org'", "HOST 'db.example.org'"),
    "PORT": ("'6000'", "PORT '6000'"),
    "NAME": ("'another'", "NAME 'another'"),
}


@pytest.mark.parametrize("case", NOT_OURS)
def test_another_database_than_the_stacks_is_told_in_one_line_and_not_touched(project, case):
    value, said = NOT_OURS[case]
    project.env |= {
        "DATABASE_HOST": "127.0.0.1",
        "DATABASE_PORT": project.server.port,
        "DATABASE_NAME": project.env["TEST_DATABASE"],
    }
    assert project.state()["refused"] == ""
    project.write("settings.py", SETTINGS + f"DATABASES['default']['{case}'] = {value}\n")
    project.write("shop/models.py", THING)
    before = project.files()
    for arguments in (["--make"], ["--deploy"]):
        told = failure(project.run("migration_state.py", *arguments))
        assert f"DATABASES['default'] has {said}" in told
        assert "DATABASE_PASSWORD_FILE" in told
    assert project.files() == before
    with project.asking("look") as process:
        out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "") and said in told and told.count("\n") == 1


def test_localhost_is_the_stacks_host_by_another_name(project):
    project.env["DATABASE_HOST"] = "localhost"
    assert project.state()["refused"] == ""


@pytest.mark.parametrize("apps", ["shop", "shop django.contrib.postgres"])
def test_a_missing_driver_is_told_in_one_line(project, run, tmp_path, repository, apps):
    """The Python has what the lock says, but for the driver."""
    text = (repository / "app/requirements.txt").read_text()
    wanted = [f"{name}=={version}" for name, version in PIN.findall(text) if "psycopg" not in name]
    for command in (["uv", "venv", "--quiet"], ["uv", "pip", "install", "--quiet", "--python"]):
        further = wanted if "pip" in command else []
        answer = run(*command, tmp_path / "venv", *further, env={"UV_SYSTEM_CERTS": "1"})
        assert answer.returncode == 0, answer.stderr
    project.starting = [tmp_path / "venv/bin/python"]
    project.env["TEST_APPS"] = apps
    project.write("shop/models.py", THING)
    assert "psycopg[binary]" in failure(project.run("migration_state.py", "--make"))
    with project.asking("look") as process:
        out, told = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "") and "psycopg[binary]" in told


def test_what_manage_py_says_before_django_is_told_in_one_line(project):
    project.write("manage.py", "import sys\nsys.exit('the token is missing')\n")
    said = failure(project.run("migration_state.py", "--make"))
    assert said.startswith("migration_state.py: the token is missing")
    with project.asking("look") as process:
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "") and "the token is missing" in said


def test_whether_a_release_can_be_served_is_looked_at_before_all_else(project):
    """Without a database too; see test_serving.py for what is said."""
    facts = {"commands": {"web": ["python3"]}, "wsgi": ""}
    assert project.state("--deploy", "--serving", json.dumps(facts))["static"] == ""
    project.env["TEST_PORT"] = "1"
    refused = project.run("migration_state.py", "--serving", json.dumps(facts | {"wsgi": "no:app"}))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("django_web_wsgi is no:app, which can't be imported")


# -- what a run writes for a container to read ----------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "name", "chdir", "what"),
    [
        ("base", "Take the source of the commit from git", "source", "base"),
        ("lint", "Copy the package that lints, readable in a container", "stack", ".cache"),
    ],
)
def test_a_container_reads_what_root_writes_under_a_narrow_umask(
    repository, tmp_path, tasks, name, chdir, what
):
    """The tasks' own commands, run where they would be, with what they are told put in."""
    source, stack = tmp_path / "source", tmp_path / "stack"
    shutil.copytree(repository / "app", source)
    shutil.copytree(repository / "rehearsal", stack / "rehearsal")
    git = "git -c user.name=t -c user.email=t@example.org"
    begin = (
        f"git init --quiet && git add . && {git} commit --quiet -m first && chmod -R go= . {stack}"
    )
    subprocess.run(["sh", "-c", begin], cwd=source, check=True)
    text = (repository / f"roles/django_web/tasks/{tasks}.yml").read_text()
    (command,) = [task for task in yaml.safe_load(text) if task["name"] == name]
    templates = jinja2.Environment()
    templates.filters["quote"] = lambda value: shlex.quote(str(value))
    told = {"__django_web_base": stack / "base", "rehearse_against": "HEAD"}
    command = templates.from_string(command["ansible.builtin.shell"]["cmd"]).render(told)
    subprocess.run(["sh", "-c", f"umask 077; {command}"], cwd=tmp_path / chdir, check=True)
    written = [stack / what, *(stack / what).rglob("*")]
    assert len(written) > 20
    for path in written:
        wanted = 0o555 if path.is_dir() else 0o444
        assert path.stat().st_mode & wanted == wanted, path


# -- the superuser ------------------------------------------------------------------------------


USERS = "django.contrib.contenttypes django.contrib.auth"


@pytest.fixture(scope="module")
def users_database(template):
    """Return the name of a database that has the tables of Django's users, to be copied."""
    project = Project(template.path, template.python, template.server, template.runtime)
    project.env["TEST_APPS"] = USERS
    name = project.own_database()
    project.manage("migrate", "--verbosity=0")
    return name


@pytest.fixture
def users(project, users_database):
    """Return a project with Django's users and a database that has none yet."""
    project.own_database(users_database)
    project.env["TEST_APPS"] = USERS
    project.write("secret", "Canary 4711\\ é\n")
    return project


def create(project, *, name="boss"):
    """Run the program that makes the superuser."""
    secret = f"--password-file={project.path}/secret"
    return project.run("create_superuser.py", secret, name, "boss@example.org")


def test_the_superuser_is_made_once_and_keeps_the_password_it_has(users):
    process = create(users)
    assert (process.stdout, process.stderr) == ("created\n", "")
    users.write("secret", "another\n")
    process = create(users)
    assert (process.stdout, process.stderr) == ("present\n", "")
    answer = users.manage(
        "shell",
        "--command=from django.contrib.auth.models import User; u = User.objects.get();"
        " print(u.username, u.email, u.is_superuser, u.is_staff,"
        " u.check_password('Canary 4711\\\\ é'), u.check_password('another'))",
    )
    assert "boss boss@example.org True True True False\n" in answer


@pytest.mark.parametrize(
    ("secret", "reason"), [(None, "No such file"), ("", "is empty"), ("\n", "is empty")]
)
def test_a_superuser_without_a_password_is_not_made(users, secret, reason):
    if secret is None:
        (users.path / "secret").unlink()
    else:
        users.write("secret", secret)
    said = failure(create(users))
    assert said.startswith("create_superuser.py: ")
    assert reason in said
    database = users.env["TEST_DATABASE"]
    assert users.server.sql("SELECT count(*) FROM auth_user", database) == "0"


def test_a_user_model_that_wants_more_is_told_in_one_line_without_the_password(users):
    users.write(
        "shop/models.py",
        "from django.contrib.auth.models import AbstractUser\nfrom django.db import models\n"
        "class User(AbstractUser):\n    phone = models.CharField(max_length=9)\n"
        "    REQUIRED_FIELDS = ['phone']\n",
    )
    shutil.rmtree(users.path / "shop/migrations")
    users.write("shop/migrations/__init__.py", "")
    users.own_database()
    users.env |= {"TEST_APPS": users.env["TEST_APPS"] + " shop", "TEST_USER_MODEL": "shop.User"}
    users.state("--make")
    users.manage("migrate", "--verbosity=0")
    said = failure(create(users))
    assert "--phone" in said
    assert "Canary" not in said


def test_a_superuser_before_the_migrations_is_told_in_one_line(users):
    users.own_database()
    said = failure(create(users))
    assert "auth_user" in said


# -- the superuser of a project with users of its own --------------------------------------------

OF_ADDRESSES = """
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.auth.password_validation import validate_password
from django.db import models

class Manager(BaseUserManager):
    def create_superuser(self, email, password, **fields):
        validate_password(password)
        user = self.model(email=self.normalize_email(email), is_superuser=True, **fields)
        user.set_password(password)
        user.save()
        return user

class User(AbstractBaseUser, PermissionsMixin):
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = ["nick", "born"]
    email = models.EmailField(unique=True)
    nick = models.CharField(max_length=9, blank=True)
    born = models.DateField()
    objects = Manager()
"""
OWN_COMMAND = """
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("--email", required=True)

    def handle(self, *, email, **options):
        print("Welcome!")
        MADE
"""


@pytest.fixture
def own_users(users):
    """Return a function that gives the project users of its own, and the tables for them."""

    def begin(models, command=""):
        users.write("shop/models.py", models)
        shutil.rmtree(users.path / "shop/migrations")
        users.write("shop/migrations/__init__.py", "")
        if command:
            users.write("shop/management/__init__.py", "")
            users.write("shop/management/commands/__init__.py", "")
            users.write("shop/management/commands/createsuperuser.py", command)
        users.own_database()
        users.env |= {"TEST_APPS": "shop " + USERS, "TEST_USER_MODEL": "shop.User"}
        users.state("--make")
        users.manage("migrate", "--verbosity=0")
        return users

    return begin


def made(project):
    """Return the addresses and nicks of the project's users."""
    query = "SELECT string_agg(email || ' ' || nick, ' ') FROM shop_user"
    return project.server.sql(query, project.env["TEST_DATABASE"])


def test_users_who_are_named_by_an_address_have_the_superusers(own_users):
    project = own_users(OF_ADDRESSES)
    said = failure(create(project))
    assert "shop.User requires born: give DJANGO_SUPERUSER_BORN in django_web_environment" in said
    project.env["DJANGO_SUPERUSER_BORN"] = "not a day"
    assert "not a day" in failure(create(project))
    project.env["DJANGO_SUPERUSER_BORN"] = "2000-01-31"
    assert create(project).stdout == "created\n"
    assert create(project).stdout == "present\n"
    assert create(project, name="Boss@Example.ORG").stdout == "present\n"
    assert create(project, name="other@example.org").stdout == "created\n"
    assert made(project).split() == ["boss@example.org", "other@example.org"]


def test_a_password_that_the_project_refuses_is_told_in_one_line(own_users):
    project = own_users(OF_ADDRESSES)
    project.env["DJANGO_SUPERUSER_BORN"] = "2000-01-31"
    rule = "django.contrib.auth.password_validation.MinimumLengthValidator"
    project.write("settings.py", f'{SETTINGS}AUTH_PASSWORD_VALIDATORS = [{{"NAME": "{rule}"}}]\n')
    project.write("secret", "short\n")
    said = failure(create(project))
    assert "too short" in said
    assert made(project) == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('get_user_model().objects.create_superuser(email, "x", nick="n", born="2000-01-31")', ""),
        ("pass", "the project's createsuperuser has made no user boss@example.org"),
        ('raise CommandError("ask\\nthe chief")', "ask the chief"),
        ("raise SystemExit(4)", "the project's createsuperuser ended with 4"),
        ("input('Sure? ')", "EOFError: EOF when reading a line"),
        (
            "{}['no']",
            "KeyError: 'no' (shop/management/commands/createsuperuser.py, line 11: {}['no'])",
        ),
    ],
)
def test_the_projects_own_command_is_used(own_users, line, said):
    project = own_users(OF_ADDRESSES, OWN_COMMAND.replace("MADE", line))
    process = create(project)
    if not said:
        assert (process.stdout, process.stderr) == ("created\n", "Welcome!\n")
        assert made(project) == "boss@example.org n"
        return
    assert process.returncode == 1
    assert process.stdout == ""
    assert said in process.stderr.splitlines()[-1]
    assert "Traceback" not in process.stderr


def test_a_user_who_would_be_the_second_of_a_kind_is_told_in_one_line(own_users):
    models = "from django.contrib.auth.models import AbstractUser\nfrom django.db import models\n"
    models += "class User(AbstractUser):\n    email = models.EmailField(unique=True)\n"
    project = own_users(models)
    assert create(project).stdout == "created\n"
    said = failure(create(project, name="another"))
    assert "boss@example.org" in said
    assert "already exists" in said


def test_a_database_that_is_away_is_told_in_one_line(users):
    users.env["TEST_PORT"] = "1"
    assert "refused" in failure(create(users))


# -- a project whose own code fails --------------------------------------------------------------

BROKEN = [
    ("X = (", "SyntaxError: '(' was never closed (settings.py, line {line}: X = ()"),
    ("X = b'\\xff'.decode()", "UnicodeDecodeError: "),
    ("raise ValueError('two\\n lines')", "ValueError: two lines (settings.py, line {line}: raise "),
    (
        "import stripe",
        (
            "ModuleNotFoundError: No module named 'stripe', neither in the project nor by its requirements.txt "
            "(settings.py, line {line}: import stripe)"
        ),
    ),
    (
        "INSTALLED_APPS += ['ghost']",
        "ModuleNotFoundError: No module named 'ghost', neither in the project nor by its requirements.txt",
    ),
    (
        "KEY = os.environ['STRIPE_KEY']",
        "KeyError: the environment variable STRIPE_KEY is not set; django_web_environment ",
    ),
    (
        "KEY = os.environ['STRIPE_KEY']",
        " (settings.py, line {line}: KEY = os.environ['STRIPE_KEY'])",
    ),
    ("KEY = {}['no']", "KeyError: 'no' (settings.py, line {line}: KEY = {}['no'])"),
]


@pytest.mark.parametrize(("line", "said"), BROKEN)
@pytest.mark.parametrize("how", ["look", "its manage.py"])
def test_an_error_of_the_project_is_one_line_with_its_place(project, line, said, how):
    project.write("settings.py", f"{SETTINGS}{line}\n")
    project.write(
        "manage.py",
        "import sys\nfrom django.core.management import execute_from_command_line\n"
        "if __name__ == '__main__':\n    execute_from_command_line(sys.argv)\n",
    )
    program = {
        "look": ["migration_state.py"],
        "its manage.py": ["project_error.py", "manage.py", "check"],
    }
    told = failure(project.run(*program[how]))
    assert said.replace("{line}", str(SETTINGS.count("\n") + 1)) in told


@pytest.mark.parametrize("settings", ["shop.setings", "config", "config.settings", "config.a.b"])
def test_settings_that_are_not_there_are_told_by_the_name_of_the_variable(project, settings):
    project.env["DJANGO_SETTINGS_MODULE"] = settings
    missing = settings if settings.startswith("shop") else "config"
    told = failure(project.run("migration_state.py"))
    assert f"django_web_settings is {settings}, and the project has no module {missing}" in told


def test_a_program_of_the_project_that_goes_well_is_left_alone(project):
    project.write(
        "manage.py", "import os, sys; print(sys.argv, sys.path[0] == os.getcwd(), __name__)\n"
    )
    process = project.run("project_error.py", "manage.py", "some", "--words")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == "['manage.py', 'some', '--words'] True __main__\n"
    project.write("manage.py", "import sys; sys.exit('CommandError: so it is')\n")
    assert failure(project.run("project_error.py", "manage.py")) == "CommandError: so it is\n"
