"""What is told of a database before anything is applied."""

import subprocess

import pytest
from project import PACKAGE

ADDED = "migrations.AddField('item', 'size', models.IntegerField(null=True))"


def test_pending_migrations_are_told_in_their_order(shop):
    names = [shop.migration("0002_size", ADDED), shop.migration("0003_nothing")]
    found = shop.look()
    assert found["pending"] == names
    assert found["recorded"] == ["shop.0001_initial"]
    assert found["ghosts"] == found["strangers"] == []
    assert found["conflicts"] == {} and found["problem"] == ""
    assert found["ailments"] == [] and found["invalid_indexes"] == []
    assert list(found["files"]) == ["shop.0001_initial"]


def test_a_look_changes_nothing(shop):
    shop.migration("0002_size", ADDED)
    before = shop.look()
    assert shop.look() == before
    assert "column shop_item.size" not in before["catalog"]


def test_a_ghost_is_recorded_and_in_no_file(shop):
    shop.migration("0002_size", ADDED)
    shop.manage("migrate", "--verbosity=0")
    shop.remove("0002_size")
    found = shop.look()
    assert found["ghosts"] == ["shop.0002_size"]
    assert found["pending"] == []


def test_a_squashed_migration_makes_no_ghosts_of_those_it_replaces(shop):
    shop.migration("0002_size", ADDED)
    shop.manage("migrate", "--verbosity=0")
    shop.manage("squashmigrations", "--no-input", "--verbosity=0", "shop", "0002")
    shop.remove("0001_initial")
    shop.remove("0002_size")
    found = shop.look()
    assert found["ghosts"] == found["pending"] == []


def test_a_replaced_migration_that_nothing_applies_any_more_is_lost(shop):
    shop.migration("0002_size", ADDED)
    shop.manage("migrate", "--verbosity=0")
    shop.migration("0003_more", ADDED.replace("size", "more"))
    shop.manage("squashmigrations", "--no-input", "--verbosity=0", "shop", "0003")
    assert shop.look()["lost"] == {}
    for name in ("0001_initial", "0002_size", "0003_more"):
        shop.remove(name)
    found = shop.look()
    assert found["pending"] == found["ghosts"] == [] and found["problem"] == ""
    assert found["lost"] == {"shop.0001_squashed_0003_more": ["shop.0003_more"]}
    shop.models(("price = models", "more = models.IntegerField(null=True)\n    price = models"))
    assert shop.look()["unfit"] == ["the column shop_item.more is missing"]


@pytest.mark.parametrize("name", ['shop"."thing', '"shop"."thing"'])
def test_a_table_whose_name_has_a_schema_in_it_is_found(shop, name):
    model = f"""
class Thing(models.Model):
    size = models.IntegerField(default=0)
    class Meta:
        db_table = {name!r}
"""
    shop.write("shop/models.py", (shop.path / "shop/models.py").read_text() + model)
    assert shop.look()["unfit"] == ["the table shop.thing is missing"]
    shop.as_app("CREATE SCHEMA shop; CREATE TABLE shop.thing (id bigserial PRIMARY KEY, size int)")
    found = shop.look()
    assert found["unfit"] == [] and "shop.thing" in found["tables"]
    shop.as_app("ALTER TABLE shop.thing ADD more int NOT NULL")
    (why,) = shop.look()["unfit"]
    assert why.startswith("the column shop.thing.more must be given a value")


def test_tables_are_those_of_models_with_migrations(shop):
    shop.write("plain/__init__.py", "")
    shop.write(
        "plain/models.py", "from django.db import models\nclass Plain(models.Model):\n    pass\n"
    )
    shop.env["TEST_APPS"] = "shop plain"
    shop.as_app("CREATE TABLE plain_plain (id bigserial PRIMARY KEY)")
    assert shop.look()["tables"] == ["shop_item", "shop_kind"]


def test_what_an_installation_prints_by_itself_is_no_answer(shop):
    loud = """print('{"pending": []}'); import atexit; atexit.register(print, '{"pending": [1]}')"""
    shop.write("sitecustomize.py", loud)
    shop.env["PYTHONPATH"] = str(shop.path)
    assert shop.look()["pending"] == []
    shop.migration("0002_size", ADDED)
    assert shop.look()["pending"] == ["shop.0002_size"]


def test_an_application_that_is_not_installed_is_a_stranger(shop):
    shop.as_app("INSERT INTO django_migrations (app, name, applied) VALUES ('gone', '0001', now())")
    found = shop.look()
    assert found["strangers"] == ["gone"] and found["ghosts"] == []


def test_two_last_migrations_are_a_conflict(shop):
    first = shop.migration("0002_size", ADDED)
    second = shop.migration("0002_other", after="0001_initial")
    found = shop.look()
    assert found["conflicts"] == {"shop": sorted([first, second])}
    assert found["pending"] == []


def test_a_look_goes_through_what_the_settings_say_of_a_connection(shop):
    """Such as: only to a server that can be written to, which a session that can't would not be."""
    options = "DATABASES['default']['OPTIONS'] = {'target_session_attrs': 'read-write'}\n"
    shop.write("settings.py", (shop.path / "settings.py").read_text() + options)
    name = shop.migration("0002_size", ADDED)
    assert shop.look()["pending"] == [name]


def test_a_look_is_let_change_nothing(shop):
    """Not even by the project itself, in each of its sessions."""
    ready = (
        "from django.apps import AppConfig\nclass Shop(AppConfig):\n    name = 'shop'\n    def ready(self):\n"
        "        from django.db import connection\n        connection.ensure_connection()\n"
    )
    shop.write("shop/apps.py", ready)
    shop.write(
        "shop/migrations/0002_writes.py",
        "from django.db import connection, migrations\nfrom shop.models import Kind\n"
        "Kind.objects.create(code='written')\n"
        "class Migration(migrations.Migration):\n    dependencies = [('shop', '0001_initial')]\n",
    )
    with shop.asking("look") as process:
        out, said = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "") and "read-only" in said


def test_an_inconsistent_history_is_a_problem(shop):
    shop.migration("0002_size", ADDED)
    shop.as_app(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('shop', '0003_next', now())"
    )
    shop.migration("0003_next")
    assert "0003_next" in shop.look()["problem"]


def test_an_edited_file_has_another_figure(shop):
    before = shop.look()["files"]
    file = shop.path / "shop/migrations/0001_initial.py"
    file.write_text(file.read_text() + "\n# edited\n")
    assert shop.look()["files"] != before


def test_a_sequence_behind_its_column_is_told_with_its_mend(shop):
    shop.as_app("INSERT INTO shop_item (id, name, price) VALUES (5000, 'late', 1)")
    (found,) = shop.look()["ailments"]
    assert found["kind"] == "sequence" and found["where"] == "shop_item.id"
    shop.as_app(found["repair"])
    assert shop.look()["ailments"] == []


def test_a_sequence_told_to_begin_with_the_next_number_is_well(shop):
    shop.as_app("ALTER SEQUENCE shop_item_id_seq RESTART WITH 1001")
    assert shop.look()["ailments"] == []
    shop.as_app("ALTER SEQUENCE shop_item_id_seq RESTART WITH 1000")
    (found,) = shop.look()["ailments"]
    assert "will give 1000 next" in found["text"]


def test_texts_sorted_by_other_rules_are_told_with_the_mend(shop):
    name = shop.env["TEST_DATABASE"]
    shop.sql(f"UPDATE pg_database SET datcollversion = '1.0' WHERE datname = '{name}'")
    (found,) = shop.look()["ailments"]
    assert found["kind"] == "collation" and "version 1.0" in found["text"]
    for statement in found["repair"].splitlines():
        shop.sql(statement)
    assert shop.look()["ailments"] == []


def test_a_row_that_comes_during_the_look_is_no_sequence_behind(shop):
    # Inserted as soon as somebody waits to read the table, and not before.
    insert = """
BEGIN;
LOCK TABLE shop_item;
\\echo locked
DO $$BEGIN
    WHILE NOT EXISTS (SELECT FROM pg_locks WHERE relation = 'shop_item'::regclass AND NOT granted) LOOP
        PERFORM pg_sleep(0.05);
    END LOOP;
END$$;
INSERT INTO shop_item (name, price) VALUES ('late', 1);
COMMIT;
"""
    words = ["docker", "exec", "--interactive", shop.server.name, "psql", "-XqAt"]
    words += ["-v", "ON_ERROR_STOP=1", "-d", shop.env["TEST_DATABASE"]]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as inserting:
        inserting.stdin.write(insert)
        inserting.stdin.close()
        assert inserting.stdout.readline() == "locked\n"
        # Alone: what else is looked at would wait for the table first.
        alone = (
            "from django_rehearsal import health, project; print(health.examine(project.set_up()))"
        )
        env = {**shop.env, "PYTHONPATH": str(PACKAGE)}
        words = [shop.python, "-c", alone]
        assert subprocess.check_output(words, cwd=shop.path, env=env, text=True) == "[]\n"
    assert inserting.returncode == 0
    assert shop.sql("SELECT count(*) FROM shop_item WHERE name = 'late'") == "1"


def test_numbers_that_run_out_are_told(shop):
    shop.as_app(
        "CREATE TABLE small (id smallserial PRIMARY KEY); INSERT INTO small VALUES (32000);"
        "SELECT setval('small_id_seq', 32000)"
    )
    (found,) = shop.look()["ailments"]
    assert found["kind"] == "overflow" and "32000 of 32767" in found["text"]


def test_a_project_that_cannot_be_loaded_is_said_in_one_line(shop):
    shop.write("settings.py", "import nowhere")
    with shop.asking("look") as process:
        out, said = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    assert said == "ModuleNotFoundError: No module named 'nowhere'\n"


def test_what_a_project_prints_is_no_part_of_the_answer(shop):
    shop.write("shop/__init__.py", "print('hello')")
    assert shop.look()["pending"] == []


def test_tables_of_another_role_are_left_alone(shop):
    shop.sql("CREATE TABLE theirs (id serial PRIMARY KEY); INSERT INTO theirs VALUES (7)")
    assert shop.look()["ailments"] == []
    shop.migration("0002_size", ADDED)
    (found,), _ = shop.rehearse()
    assert found["migration"] == "shop.0002_size" and found["changes"] == []


def test_a_schema_that_may_not_be_entered_is_left_alone(shop):
    shop.sql("CREATE SCHEMA hidden; CREATE TABLE hidden.t (id serial)")
    shop.sql("GRANT SELECT ON hidden.t, hidden.t_id_seq TO app")
    assert shop.look()["ailments"] == []
