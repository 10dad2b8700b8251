"""What is found in migrations before there is a row: models without a file, and what two linters say of the SQL."""

import pytest

ADD = "migrations.AddField('item', 'size', models.IntegerField({}))"


@pytest.fixture(scope="session")
def linters(run, repository, tmp_path_factory):
    """Return where the linters are, installed as `./run.sh -1 lint` does."""
    place = tmp_path_factory.mktemp("linters")
    lock = repository / "requirements-lint.txt"
    words = ["--quiet", "--target", place, "--no-deps", "--require-hashes", "-r", lock]
    answer = run("uv", "pip", "install", *words, env={"UV_SYSTEM_CERTS": "1"})
    assert answer.returncode == 0, answer.stderr
    return place


@pytest.fixture
def lint(shop, linters):
    """Return a function that lints the named migrations of the shop and returns what is said."""
    shop.beside.append(linters)

    def call(*names):
        files = [f"{name.replace('.', '/migrations/')}.py" for name in names]
        (answer,) = shop.ask("lint", f"--squawk={linters}/bin/squawk", *files)
        return answer

    return call


def column(shop, options):
    """Give the items a field in the models, and return the migration that adds it."""
    field = f"    size = models.IntegerField({options})\n    kind = "
    shop.models(("    kind = ", field))
    return shop.migration("0002_size", ADD.format(options))


def test_nothing_is_said_of_what_is_well(shop, lint):
    assert lint(column(shop, "null=True")) == {"lines": [], "stop": False}


def test_models_without_a_migration(shop, lint):
    shop.models(("    kind = ", "    size = models.IntegerField(null=True)\n    kind = "))
    told = lint()
    assert told["stop"]
    assert "no migration says how" in told["lines"][0] and "size" in told["lines"][0]
    assert not list((shop.path / "shop/migrations").glob("0002*"))


def test_what_another_package_lacks_is_a_note_whose_remedy_works(shop, lint, tmp_path):
    place = tmp_path / "elsewhere"
    shop.write(
        "../elsewhere/packaged/models.py",
        "from django.db import models\nclass Thing(models.Model):\n    pass\n",
    )
    shop.write("../elsewhere/packaged/__init__.py", "")
    shop.write("../elsewhere/packaged/migrations/__init__.py", "")
    shop.beside.append(place)
    shop.env |= {"PYTHONPATH": str(place), "TEST_APPS": "shop packaged"}
    shop.write(
        "small.py", "from settings import *\nDEFAULT_AUTO_FIELD = 'django.db.models.AutoField'\n"
    )
    shop.manage("makemigrations", "packaged", "--settings=small", "--verbosity=0")
    told = lint()
    assert told["stop"] is False and len(told["lines"]) == 1
    assert "packaged is another package's" in told["lines"][0]
    assert "Alter field id on thing" in told["lines"][0]
    shop.write(
        "shop/packages.py",
        "from django.apps import AppConfig\nclass Packaged(AppConfig):\n    name = 'packaged'\n"
        "    default_auto_field = 'django.db.models.AutoField'\n",
    )
    shop.env["TEST_APPS"] = "shop shop.packages.Packaged"
    assert lint() == {"lines": [], "stop": False}


def test_a_default_that_only_the_new_release_knows(shop, lint):
    told = lint(column(shop, "default=1"))
    assert told["stop"]
    assert any("NOT_NULL" in line and "shop.0002_size" in line for line in told["lines"])
    assert any("ban-drop-default" in line for line in told["lines"])


def test_the_databases_own_default_is_well(shop, lint):
    assert lint(column(shop, "db_default=1"))["stop"] is False


def test_only_the_named_files_are_linted(shop, lint):
    drop = shop.migration("0002_drop", "migrations.RemoveField('item', 'note')")
    shop.models(("    note = models.TextField(null=True)\n", ""))
    assert lint() == {"lines": [], "stop": False}
    assert any("DROP_COLUMN" in line for line in lint(drop)["lines"])


def test_an_index_that_keeps_writes_waiting(shop, lint):
    shop.models(
        (
            "price = models.IntegerField(default=0)",
            "price = models.IntegerField(default=0, db_index=True)",
        )
    )
    field = "models.IntegerField(default=0, db_index=True)"
    name = shop.migration("0002_index", f"migrations.AlterField('item', 'price', {field})")
    told = lint(name)
    assert told["stop"]
    assert any("require-concurrent-index-creation" in line for line in told["lines"])


def test_nothing_is_said_of_a_reverse_and_nothing_twice(shop, lint):
    add, drop = (f"ALTER TABLE shop_item {words}" for words in ("ADD extra int", "DROP extra"))
    assert (
        lint(shop.migration("0002_extra", f"migrations.RunSQL({add!r}, {drop!r})"))["lines"] == []
    )
    once = "ALTER TABLE shop_item ADD CONSTRAINT once UNIQUE (name)"
    told = lint(shop.migration("0003_once", f"migrations.RunSQL({once!r}, '')"))["lines"]
    assert sum("ADD_UNIQUE" in line for line in told) == 1 and "findings" in told[-1]


def test_what_is_allowed_in_writing_is_told_with_its_reason(shop, lint):
    name = column(shop, "default=1")
    shop.write(
        "migrations.toml",
        f"[[override]]\nmigration = '{name}'\nfindings = ['lint']\nreason = 'nobody is there yet'\n",
    )
    told = lint(name)
    assert told["stop"] is False
    assert all("allowed: nobody is there yet" in line for line in told["lines"])
    assert told["lines"]


def test_remarks_may_be_mere_notes(shop, lint):
    name = column(shop, "default=1")
    shop.write("migrations.toml", "[findings]\nlint = 'warn'\n")
    told = lint(name)
    assert told["stop"] is False
    assert {line[:4] for line in told["lines"]} == {"note"}


def test_a_linter_that_is_not_there_is_no_clean_bill(shop, linters):
    shop.beside.append(linters)
    column(shop, "null=True")
    with shop.asking("lint", "--squawk=/nowhere/squawk", "shop/migrations/0002_size.py") as process:
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert "/nowhere/squawk" in said
