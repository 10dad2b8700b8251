"""The serving release and the new one: what either can't do on the migrated schema stops the deploy."""

import re

import pytest

ADD = 'migrations.AddField("item", "{}", models.IntegerField({}))'


def test_a_column_that_must_have_a_value(first):
    """Known to the new release alone, its default stops; the database's own goes."""
    first.field("size", "default=1")
    name = first.migration("size", ADD.format("size", "default=1"))
    first.stops(f"STOP  stock.{name}", "insert of stock.Item: 23502")
    first.remove(name)
    first.model("size = models.IntegerField(default=1)", "size = models.IntegerField(db_default=1)")
    first.migration("size", ADD.format("size", "db_default=1"))
    said = first.goes()
    assert "lossless" in said


@pytest.mark.full(
    seen_by="tests/rehearsal/test_exercise.py::test_a_removed_column_breaks_all_that_names_it"
)
def test_a_column_that_the_serving_release_uses(first):
    """Dropped at once it stops; one deploy after the release stopped using it, it passes."""
    first.model("    note = models.TextField(null=True)\n", "")
    drop = 'migrations.RemoveField("item", "note")'
    name = first.migration("drop", drop)
    first.stops(
        "stop old-release",
        "read of stock.Item: 42703",
        "insert, bare insert, full insert, update of stock.Item: 42703",
        "GET /stock/ answers 500",
    )
    first.remove(name)
    state = f"migrations.SeparateDatabaseAndState(state_operations=[{drop}])"
    first.migration("forget", state)
    first.goes()
    back = "ALTER TABLE stock_item ADD COLUMN note text"
    name = first.migration(
        "drop", f'migrations.RunSQL("ALTER TABLE stock_item DROP COLUMN note", "{back}")'
    )
    first.allow(
        f"[[override]]\nmigration = 'stock.{name}'\nfindings = ['data-loss']\nreason = 'in the archive'\n"
    )
    said = first.goes()
    # Taken back, the column would be there again, and its values would not.
    assert re.search(rf"go    stock\.{name}: .*\blossy\n", said)
