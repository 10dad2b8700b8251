"""A database that is not what its migrations make: found by name, said in words, mended by the SQL proposed."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from django_rehearsal.drift import differences

ROLES = Path(__file__).resolve().parents[2] / "roles"
sys.path[:0] = [str(ROLES / "django_web/files/program"), str(ROLES / "program/files/library")]

from postdo_deploy import rehearsal

CHANGES = {
    "a comment": (
        "COMMENT ON TABLE shop_item IS 'not in any migration'",
        ["surplus comment shop_item"],
    ),
    "a reference that is gone": (
        "ALTER TABLE shop_item DROP CONSTRAINT FOREIGN_KEY",
        ["missing constraint shop_item.FOREIGN_KEY"],
    ),
    "a rule of rewriting": (
        "CREATE RULE away AS ON DELETE TO shop_kind DO INSTEAD NOTHING",
        ["surplus rule shop_kind.away"],
    ),
    "a hand-made index": (
        "CREATE INDEX by_hand ON shop_item (price)",
        ["surplus index by_hand"],
    ),
    "an index that is gone": (
        "DROP INDEX INDEX_OF_KIND",
        ["missing index INDEX_OF_KIND"],
    ),
    "a type changed by hand": (
        "ALTER TABLE shop_item ALTER COLUMN name TYPE varchar(80)",
        ["different column shop_item.name"],
    ),
    "a default and a rule changed by hand": (
        "ALTER TABLE shop_item ALTER COLUMN price SET DEFAULT 7, ALTER COLUMN price DROP NOT NULL",
        ["different column shop_item.price"],
    ),
    "a hand-made column": (
        "ALTER TABLE shop_item ADD COLUMN extra int",
        ["surplus column shop_item.extra"],
    ),
    "a column that is gone": (
        "ALTER TABLE shop_item DROP COLUMN note",
        ["missing column shop_item.note"],
    ),
    "a hand-made rule": (
        "ALTER TABLE shop_item ADD CONSTRAINT positive CHECK (price >= 0)",
        ["surplus constraint shop_item.positive"],
    ),
    "a hand-made trigger": (
        (
            "CREATE TRIGGER still BEFORE UPDATE ON shop_item FOR EACH ROW "
            "EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        ),
        ["surplus trigger shop_item.still"],
    ),
    "a name that must be quoted": (
        'ALTER TABLE shop_item ADD COLUMN "odd. name" int',
        ['surplus column shop_item."odd. name"'],
    ),
}


def replay(shop, recorded, code=0):
    """Return what `replay` says of recorded migrations."""
    name = f"{shop.env['TEST_DATABASE']}_shadow"
    shop.server.sql(f"CREATE DATABASE {name} OWNER app")
    try:
        return shop.ask("replay", "--database", name, told=json.dumps(recorded), code=code)[0]
    finally:
        shop.server.sql(f"DROP DATABASE {name} WITH (FORCE)")


def drift(shop):
    """Return how the shop's database differs from what its recorded migrations make."""
    found = shop.look()
    return differences(replay(shop, found["recorded"])["catalog"], found["catalog"])


def test_what_the_migrations_made_is_no_drift(shop):
    assert drift(shop) == []


@pytest.mark.parametrize("case", CHANGES)
def test_a_change_by_hand_is_told_and_mended(shop, case):
    statement, told = CHANGES[case]
    index = shop.sql("SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%(kind_id)%'")
    reference = shop.sql("SELECT conname FROM pg_constraint WHERE contype = 'f'")

    def named(text):
        return text.replace("INDEX_OF_KIND", index).replace("FOREIGN_KEY", reference)

    shop.as_app(named(statement))
    found = drift(shop)
    expected = [named(one) for one in told]
    assert [f"{one.kind} {one.object}" for one in found] == expected
    assert not any(one.foreign for one in found)
    for one in found:
        for repair in one.repair.split("; "):
            shop.as_app(repair) if "CONCURRENTLY" not in repair else shop.sql(repair)
    assert drift(shop) == []


def test_the_order_of_columns_is_no_drift(shop):
    shop.as_app(
        "ALTER TABLE shop_item DROP COLUMN note; ALTER TABLE shop_item ADD COLUMN note text"
    )
    assert drift(shop) == []


def test_a_faked_migration_is_drift(shop):
    shop.migration(
        "0002_size", "migrations.AddField('item', 'size', models.IntegerField(null=True))"
    )
    shop.manage("migrate", "--fake", "--verbosity=0")
    (found,) = drift(shop)
    assert str(found) == "column shop_item.size is missing; by the migrations it is: integer"
    assert found.repair == "ALTER TABLE shop_item ADD COLUMN size integer;"


def test_somebody_elses_table_is_one_line_and_foreign(shop):
    shop.as_app(
        "CREATE TABLE theirs (id serial PRIMARY KEY, name text UNIQUE); CREATE INDEX ON theirs (id)"
    )
    (found,) = drift(shop)
    assert found.object == "table theirs" and found.foreign and not found.repair


def test_a_table_that_is_gone_is_one_line(shop):
    shop.as_app("DROP TABLE shop_item")
    (found,) = drift(shop)
    assert found.object == "table shop_item" and found.kind == "missing"


def test_an_edited_file_shows_as_drift(shop):
    file = shop.path / "shop/migrations/0001_initial.py"
    file.write_text(file.read_text().replace("max_length=50", "max_length=70"))
    (found,) = drift(shop)
    assert found.object == "column shop_item.name" and found.expected.startswith(
        "character varying(70)"
    )


MAKE = "CREATE SCHEMA other_ext AUTHORIZATION app; CREATE EXTENSION citext SCHEMA other_ext"


@pytest.mark.parametrize(
    ("by_hand", "settings", "operations"),
    [
        ("CREATE EXTENSION citext", "", ["ALTER TABLE shop_item ADD nick citext"]),
        (MAKE, "", ["ALTER TABLE shop_item ADD nick other_ext.citext"]),
        (MAKE, "search_path = public, other_ext", ["ALTER TABLE shop_item ADD nick citext"]),
        # Migrations that make both themselves.
        ("", "", [MAKE, "ALTER TABLE shop_item ADD nick other_ext.citext"]),
    ],
)
def test_an_extension_is_no_drift_wherever_it_is(shop, monkeypatch, by_hand, settings, operations):
    """The empty database is made like the live one, by the program that rehearses."""
    name = shop.env["TEST_DATABASE"]
    if by_hand:
        shop.sql(by_hand)
    if settings:
        shop.sql(f"ALTER DATABASE {name} SET {settings}")
    shop.migration("0002_nick", *(f"migrations.RunSQL({sql!r})" for sql in operations))
    shop.manage("migrate", "--verbosity=0")

    def ask(environment, release, words, copy, told):
        with shop.asking(*words) as process:
            out, said = process.communicate(told, timeout=120)
        assert process.returncode in (0, 1), said
        return json.loads(out)

    # In place of a container of the release.
    monkeypatch.setattr(rehearsal, "_ask", ask)
    environment = SimpleNamespace(database={"name": name, "user": "app"})
    found, journal = shop.look(), SimpleNamespace(last={})
    rehearsed = rehearsal.Rehearsal(environment, None, None, found, journal)
    answer = rehearsed._replayed(SimpleNamespace(container=shop.server.name))
    assert "unplayable" not in answer, answer
    assert differences(answer["expected"], found["catalog"]) == []


def test_a_migration_that_needs_rows_cannot_be_replayed(shop):
    shop.migration(
        "0002_needs",
        "migrations.RunPython(lambda apps, editor: apps.get_model('shop', 'Item').objects.get(pk=1))",
    )
    shop.manage("migrate", "--verbosity=0")
    answer = replay(shop, shop.look()["recorded"], code=1)
    assert answer["migration"] == "shop.0002_needs"
    assert "Item matching query does not exist" in answer["error"]


def test_a_table_that_is_nobodys_is_left_alone_with_all_its_parts(shop):
    shop.as_app('CREATE TABLE "of others" (n serial, CHECK (n > 0))')
    shop.as_app('CREATE INDEX theirs ON "of others" (n)')
    shop.as_app("CREATE VIEW report AS SELECT 1 AS one")
    shop.as_app("CREATE RULE away AS ON INSERT TO report DO INSTEAD NOTHING")
    found = drift(shop)
    assert [one.object for one in found] == ['table "of others"', "view report"]
    assert all(one.foreign for one in found)
